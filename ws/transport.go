package ws

import (
	"log/slog"
	"net/http"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// transport makes a WebSocket of one request.
type transport struct {
	*Handler
	options Options // with defaults
}

// Check wants a handshake of RFC 6455 from an origin that may connect, and a
// ResponseWriter that can be hijacked.
func (t *transport) Check(w, target http.ResponseWriter, r *http.Request) (delivery.Mode, error) {
	if err := check(w, target, r, t.options); err != nil {
		return delivery.Mode{}, &fanfare.Refusal{Status: statusOf(err), Plain: true, Err: err}
	}
	return delivery.Mode{Codec: &t.plain, Detached: t.Detach, Status: http.StatusSwitchingProtocols, Heartbeat: t.options.PingInterval}, nil
}

// Begin upgrades the connection, starts the stream, and reads what the client sends.
func (t *transport) Begin(target http.ResponseWriter, r *http.Request, o *delivery.Opening) error {
	c, err := accept(o.Context(), target, r, &t.buffers, &t.deflater, t.options)
	if err != nil { // the client has been answered
		t.engine.Report(slog.LevelError, "the handshake failed", "path", r.URL.Path, "error", err)
		return nil
	}
	if c.socket.deflates {
		o.Use(&t.deflated)
	}
	in := newInbox(c, o.Stream(), &t.engine, t.options, t.Encode == nil)
	if t.Receive != nil {
		err = guard.Call("Receive", func() error {
			in.receive = t.Receive(r.WithContext(o.Context()), c)
			return nil
		})
	}
	o.Start(&streamConn{c, in}, nil, t.options.MaxAge)
	if err != nil {
		in.fail(err)
	}
	if t.Detach {
		go in.serve()
	} else {
		in.serve()
	}
	return nil
}
