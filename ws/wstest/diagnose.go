package wstest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/diagnosis"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/ws"
)

// Diagnose sends a handshake through a router with all its middleware. It reports what
// in the chain would break a WebSocket in production, and what to do about it:
//
//   - a wrapper around the ResponseWriter that hides Hijack, by its type;
//   - a timeout that ends the request's context, and after how long;
//   - a connection that does not carry a message.
//
// It returns all that it finds, joined by errors.Join, or nil. A probe takes the place of
// the ws.Handler or the ws.Upgrade that the request reaches: no Broadcaster is used and
// no hook of the handler is called. The request must get that far, so give it the
// credentials that the middleware asks for.
func Diagnose(h http.Handler, r *http.Request) error {
	p := &probe{done: make(chan struct{})}
	r = r.WithContext(streamctx.WithProbe(r.Context(), p.serve))
	s := memnet.NewServer(h, r, new(faults.Link))
	s.Start()
	defer s.Close()

	c, err := dial(s, r)
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		_, _, err = c.Read(ctx)
		c.CloseNow()
	}
	if !p.reached.Load() {
		if err == nil {
			err = errors.New("another handler has answered")
		}
		return fmt.Errorf("wstest: the request did not reach a WebSocket: %w", err)
	}
	<-p.done
	found := p.found
	if err != nil && !p.refused {
		found = append(found, fmt.Errorf("the connection carries nothing: %w", err))
	}
	for i, err := range found {
		found[i] = fmt.Errorf("wstest: %w", err)
	}
	return errors.Join(found...)
}

// probe takes the place of the WebSocket.
type probe struct {
	once    sync.Once
	reached atomic.Bool
	done    chan struct{} // closed when the probe has ended

	found   []error // read after done
	refused bool    // read after done: the upgrade failed, and found has the reason
}

func (p *probe) serve(w http.ResponseWriter, r *http.Request) {
	p.once.Do(func() {
		p.reached.Store(true)
		defer close(p.done)
		p.examine(w, r)
	})
}

func (p *probe) examine(w http.ResponseWriter, r *http.Request) {
	claim := streamctx.ClaimOf(w, r)
	defer claim.Leave()
	if err := diagnosis.Deadline(claim.Context); err != nil {
		p.found = append(p.found, err)
	}
	anyOrigin := func(*http.Request) error { return nil }
	c, err := ws.Upgrade(w, r, &ws.Options{CheckOrigin: anyOrigin})
	if err != nil {
		p.found, p.refused = append(p.found, err), true
		return
	}
	defer c.Close(ws.StatusNormalClosure, "")
	if err := c.Write(r.Context(), ws.Text, []byte("probe")); err != nil {
		p.found = append(p.found, err)
	}
}
