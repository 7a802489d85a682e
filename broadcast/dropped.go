package broadcast

import "log/slog"

// dropped are the entries that a read has met which are not valid messages: one line of the
// log for all, since clients that resume make the Hub read them again.
type dropped struct {
	count int
	first ID
	err   error // why the first is not valid
}

// passes counts an entry that is not valid, unless it has no topic: the journal's own entries
// have none.
func (d *dropped) passes(m *Message, err error) bool {
	if err != nil && m.Topic != "" {
		if d.count++; d.count == 1 {
			d.first, d.err = m.ID, err
		}
	}
	return err == nil
}

func (d *dropped) log(logger *slog.Logger) {
	if d.count > 0 {
		logger.Error("broadcast: dropped entries of the journal that are not valid messages, of what clients have missed",
			"entries", d.count, "first", d.first, "error", d.err)
	}
}
