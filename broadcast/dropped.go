package broadcast

import (
	"context"
	"log/slog"

	"github.com/fanfare-go/fanfare/internal/ratelog"
)

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

// logDropped writes at most two lines per second.
func (h *Hub) logDropped(d *dropped) {
	if d.count > 0 {
		h.reports.Write(context.Background(), h.Logger,
			ratelog.Kind{Level: slog.LevelError, Message: "broadcast: dropped entries of the journal that are not valid messages, of what clients have missed"},
			"entries", d.count, "first", d.first, "error", d.err)
	}
}
