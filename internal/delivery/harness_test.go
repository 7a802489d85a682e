package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

var quiet = slog.New(slog.DiscardHandler)

// wire is a Conn that writes into memory: messages as their data and ID, notices as
// their kind and ID, heartbeats as "beat", the end as its reason.
type wire struct {
	mu     sync.Mutex
	said   []string
	sizes  []int         // of the writes
	fail   error         // of the next writes
	block  chan struct{} // not nil: writes wait until it is closed
	ended  chan struct{}
	closed int
	cut    bool
}

func newWire() *wire { return &wire{ended: make(chan struct{})} }

func (c *wire) Write(frames net.Buffers, w *delivery.Worker) error {
	if c.block != nil {
		w.Wait()
		<-c.block
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	size := 0
	for _, f := range frames {
		size += len(f)
		for part := range bytes.SplitSeq(bytes.TrimSuffix(f, []byte("\n")), []byte("\n")) {
			if len(part) > 100 {
				part = part[:100]
			}
			c.said = append(c.said, string(part))
		}
	}
	c.sizes = append(c.sizes, size)
	return nil
}

func (c *wire) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, text)
}

func (c *wire) Beat(*delivery.Worker) error { c.say("beat"); return nil }
func (c *wire) Tick() time.Duration         { return 0 }
func (c *wire) Closing()                    { c.mu.Lock(); defer c.mu.Unlock(); c.closed++ }
func (c *wire) Cut()                        { c.mu.Lock(); defer c.mu.Unlock(); c.cut = true }
func (c *wire) End(why delivery.Reason)     { c.say("end: " + why.Name); close(c.ended) }

// take returns what was written since the last call.
func (c *wire) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := c.said
	c.said = nil
	return said
}

// codec returns a Codec in lines of text; gaps says whether its wire sends them, and beginnings.
func codec(gaps bool) *delivery.Codec {
	line := func(text string, id broadcast.ID) []byte {
		if id.IsZero() {
			return []byte(text + "\n")
		}
		return []byte(text + " " + seq(id) + "\n")
	}
	return &delivery.Codec{
		Message: func(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
			switch string(m.Data) {
			case "panics":
				panic("in Encode")
			case "fails":
				return nil, errors.New("no such message")
			}
			return line(string(m.Data), id), nil
		},
		Notice: func(n fanfare.Notice) ([]byte, error) {
			if (n.Kind == fanfare.Gap || n.Kind == fanfare.Begin) && !gaps {
				return nil, nil
			}
			return line(string(n.Kind), n.ID), nil
		},
	}
}

// seq is the sequence of an ID, or "?" for a position that is not known.
func seq(id broadcast.ID) string {
	if id.Epoch() == 1 {
		return "?"
	}
	return string(rune('0' + id.Seq()%10))
}

// transport is a Transport whose streams write to wires.
type transport struct {
	mode     delivery.Mode
	check    error
	begin    func(o *delivery.Opening) error // nil: Start with maxAge
	conn     *wire
	every    time.Duration
	maxAge   time.Duration
	prologue []byte
	stream   *delivery.Stream
	context  context.Context
}

func (t *transport) Check(_, _ http.ResponseWriter, _ *http.Request) (delivery.Mode, error) {
	if t.mode.Codec == nil {
		t.mode.Codec = codec(true)
	}
	t.mode.Heartbeat = t.every
	return t.mode, t.check
}

func (t *transport) Begin(_ http.ResponseWriter, _ *http.Request, o *delivery.Opening) error {
	t.stream, t.context = o.Stream(), o.Context()
	if t.begin != nil {
		return t.begin(o)
	}
	o.Start(t.conn, t.prologue, t.maxAge)
	return nil
}

// connect lets an engine serve a request, and returns the wire of its stream.
func connect(t *testing.T, e *delivery.Engine, tr *transport, target string) *wire {
	t.Helper()
	tr.conn = newWire()
	if tr.begin == nil {
		tr.mode.Detached = true
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest("GET", target, nil), tr)
	require.NotNil(t, tr.stream, "refused with %d", w.Code)
	return tr.conn
}

func publish(t *testing.T, hub *broadcast.Hub, topic string, texts ...string) (last broadcast.ID) {
	t.Helper()
	for _, text := range texts {
		id, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Data: []byte(text)})
		require.NoError(t, err)
		last = id
	}
	return last
}

func engine(hub broadcast.Broadcaster, grant *fanfare.Grant) *delivery.Engine {
	c := delivery.Config{Name: "test", Broadcaster: hub, Topics: []string{"a"}, Logger: quiet}
	if grant != nil {
		c.Grant = func(*http.Request) (*fanfare.Grant, error) { return grant, nil }
	}
	return delivery.NewEngine(c)
}
