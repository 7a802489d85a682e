package broadcasttest

import (
	"errors"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// page is a client that shows what its stream brings: the value of each Key, and the events. Its
// connection may be cut after any message; it then has the last ID that it was sent.
type page struct {
	t      *testing.T
	s      *stream
	id     broadcast.ID
	values map[string]string // by Key
	events []string
	begins []*broadcast.BeginError
	gaps   int
}

// show opens a page.
func show(t *testing.T, b broadcast.Broadcaster, opts broadcast.SubscribeOptions) *page {
	t.Helper()
	p := &page{t: t, s: subscribe(t, b, opts), id: opts.After, values: make(map[string]string)}
	if !opts.Beginning {
		p.id = p.s.sub.Position()
	}
	return p
}

// reopen is the page after a cut: it shows what it showed, and its stream resumes.
func (p *page) reopen(b broadcast.Broadcaster, opts broadcast.SubscribeOptions) *page {
	p.t.Helper()
	opts.After = p.id
	again := show(p.t, b, opts)
	again.values, again.events = maps.Clone(p.values), append([]string(nil), p.events...)
	return again
}

// poll polls once and applies the messages that came up to most of them; the client is cut after
// these. It returns what Poll returned.
func (p *page) poll(size, most int) ([]*broadcast.Message, error) {
	p.t.Helper()
	buf := make([]*broadcast.Message, size)
	n, err := p.s.sub.Poll(buf)
	var begin *broadcast.BeginError
	switch {
	case errors.As(err, &begin):
		require.Equal(p.t, broadcast.MakeID(1, 0), p.s.sub.Position(), "Position while topics begin")
		p.begins = append(p.begins, begin)
		if begin.Topics == nil {
			p.id, p.events = broadcast.MakeID(1, 0), nil
			clear(p.values)
		}
	case errors.Is(err, broadcast.ErrGap):
		p.gaps++
	}
	position := p.s.sub.Position()
	for _, m := range buf[:min(n, most)] {
		p.apply(m)
		if m.ID.Epoch() == position.Epoch() && m.ID.Seq() <= position.Seq() {
			p.id = m.ID
		}
	}
	if n <= most && position.Epoch() > 1 {
		p.id = position
	}
	return buf[:n], err
}

func (p *page) apply(m *broadcast.Message) {
	switch {
	case m.Removed:
		delete(p.values, m.Key)
	case m.Key != "":
		p.values[m.Key] = string(m.Data)
	case m.First:
		p.events = []string{string(m.Data)}
	default:
		p.events = append(p.events, string(m.Data))
	}
}

// drain polls until nothing is left, and returns the errors that came.
func (p *page) drain(size int) (errs []error) {
	p.t.Helper()
	for {
		ms, err := p.poll(size, size)
		switch {
		case err != nil:
			errs = append(errs, err)
			if !errors.Is(err, broadcast.ErrGap) && !errors.Is(err, broadcast.ErrBegin) {
				return errs
			}
		case len(ms) == 0 && p.s.sub.Position().Epoch() == 1: // it is still to be placed
			waitFor(p.t, p.s.notified, "a call of Notify")
		case len(ms) == 0:
			return errs
		}
	}
}

// beginning polls the first messages of a beginning, which it returns with its error.
func (p *page) beginning(size int) ([]*broadcast.Message, *broadcast.BeginError) {
	p.t.Helper()
	ms, err := p.poll(size, size)
	var begin *broadcast.BeginError
	require.ErrorAs(p.t, err, &begin)
	return ms, begin
}

// set sets a Key on the topic "a".
func set(t *testing.T, b broadcast.Broadcaster, key, data string) broadcast.ID {
	t.Helper()
	return send(t, b, broadcast.Message{Topic: "a", Key: key, Data: []byte(data)})
}

// remove removes a Key from the topic "a".
func remove(t *testing.T, b broadcast.Broadcaster, key string) broadcast.ID {
	t.Helper()
	return send(t, b, broadcast.Message{Topic: "a", Key: key, Removed: true})
}

func send(t *testing.T, b broadcast.Broadcaster, m broadcast.Message) broadcast.ID {
	t.Helper()
	id, err := b.Publish(background(t), m)
	require.NoError(t, err, "Publish")
	return id
}

// settle waits until all that was published has arrived. It returns the head of the log.
func settle(t *testing.T, b broadcast.Broadcaster) broadcast.ID {
	t.Helper()
	id := publish(t, b, "settled", "")
	arrive(t, b, "settled", id)
	return id
}

// keysOf returns the Keys of messages, and of those without one the Data.
func keysOf(ms []*broadcast.Message) (keys []string) {
	for _, m := range ms {
		if m.Key != "" {
			keys = append(keys, m.Key)
		} else {
			keys = append(keys, string(m.Data))
		}
	}
	return keys
}
