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

// Diagnose makes a handshake with a router with all its middleware, and reports
// what in the chain would break a WebSocket in production, and what to do about
// it: a Hijack that cannot be reached, with the type of the wrapper in the way; a
// context that a timeout ends, and after how long; a connection that does not
// carry a message.
//
// All that it finds is joined (errors.Join); nil means that nothing was found. A
// probe takes the place of the WebSocket that the request reaches, a ws.Handler's
// or a ws.Upgrade's. The request has to get there: give it the credentials that the
// middleware wants.
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
			err = errors.New("something else has answered")
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

// probe is what stands in the WebSocket's place.
type probe struct {
	once    sync.Once
	reached atomic.Bool
	done    chan struct{} // closed when it has ended; what follows may be read then
	found   []error
	refused bool // and found says why
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
