package ws

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/streamctx"
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
	mode := delivery.Mode{Codec: &t.plain, Detached: t.Detach, Status: http.StatusSwitchingProtocols, Heartbeat: t.options.PingInterval}
	if r.URL.Query().Get("refusals") == "close" {
		mode.Close = t.close
	}
	return mode, nil
}

// refusalTimeout is how long a client that is refused by a close frame may take to answer
// it. Meanwhile it takes a place of a Limit.
const refusalTimeout = 2 * time.Second

// close accepts the handshake of a client that is refused, and closes the connection at
// once.
func (t *transport) close(ctx context.Context, target http.ResponseWriter, r *http.Request, why delivery.Reason) error {
	options := Options{Subprotocols: t.options.Subprotocols, WriteTimeout: refusalTimeout, MaxMessage: 1 << 10}
	if t.options.WriteTimeout > 0 {
		options.WriteTimeout = min(t.options.WriteTimeout, refusalTimeout)
	}
	c, err := accept(ctx, target, r, &t.buffers, &t.deflater, &options)
	if err != nil {
		return err
	}
	defer streamctx.Attach(ctx, func(how streamctx.End) {
		if how.Cut {
			go c.cut(net.ErrClosed)
		}
	}).Detach()
	return c.Close(StatusCode(why.Code), why.Text)
}

// Begin upgrades the connection, starts the stream, and reads what the client sends.
func (t *transport) Begin(target http.ResponseWriter, r *http.Request, o *delivery.Opening) error {
	c, err := accept(o.Context(), target, r, &t.buffers, &t.deflater, &t.options)
	if err != nil { // the client has been answered
		t.engine.Report(slog.LevelError, "the handshake failed", "path", r.URL.Path, "error", err)
		return nil
	}
	if c.socket.deflates {
		o.Use(&t.deflated)
	}
	if t.Detach {
		c.socket.detach()
	}
	in := newInbox(c, o.Stream(), &t.engine, t.options, t.Encode == nil)
	watched := t.Detach && in.watchWith(&t.engine.Watch)
	if t.Receive != nil {
		err = guard.Call("Receive", func() error {
			in.receive = t.Receive(r.WithContext(o.Context()), c)
			return nil
		})
	}
	o.Start((*streamConn)(c.socket), nil, t.options.MaxAge)
	if err != nil {
		in.fail(err)
	}
	switch {
	case watched:
		go in.run()
	case t.Detach:
		go in.serve()
	default:
		in.serve()
	}
	return nil
}
