package wstest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/diagnosis"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/wrappers"
	"github.com/fanfare-go/fanfare/ws"
)

// Diagnose sends a handshake through a router with all its middleware, as a browser does.
// It reports what in the chain would break a WebSocket in production, and what to do about
// it:
//
//   - a wrapper around the ResponseWriter that hides Hijack, by its type;
//   - a wrapper that keeps the status of the handshake to itself, by its type;
//   - a timeout that ends the request's context, and after how long;
//   - a connection that does not carry a message, with the types of all wrappers;
//   - a ws.Handler without a Broadcaster, or with neither Topics nor Grant.
//
// It returns all that it finds, joined by errors.Join, or nil. A probe takes the place of
// the ws.Handler or the ws.Upgrade that the request reaches: no Broadcaster is used and
// no hook of the handler is called. The request must get that far, so give it the
// credentials that the middleware asks for, and an Origin if that checks one. Headers such
// as Accept-Encoding, on which middleware may depend, are those of a browser unless the
// request has its own.
func Diagnose(h http.Handler, r *http.Request) error {
	r = fromBrowser(r)
	p := &probe{done: make(chan struct{})}
	err := p.send(h, r)
	if !p.reached.Load() {
		if err == nil {
			err = errors.New("another handler has answered")
		}
		return fmt.Errorf("wstest: the request did not reach a WebSocket: %w", err)
	}
	<-p.done
	found := p.found
	if err != nil && !p.refused {
		found = append(found, fmt.Errorf("the connection carries nothing: %w; %s", err, p.describe()))
	}
	if p.kept {
		found = append(found, p.keeper(h, r))
	}
	for i, err := range found {
		found[i] = fmt.Errorf("wstest: %w", err)
	}
	return errors.Join(found...)
}

// browser is what browsers send with the handshake of a WebSocket, as far as a middleware
// could decide by it. No Origin: pages of the server's own host are not all that may
// connect.
var browser = map[string]string{
	"Accept-Encoding":          "gzip, deflate, br, zstd",
	"Accept-Language":          "en-US,en;q=0.9",
	"Cache-Control":            "no-cache",
	"Pragma":                   "no-cache",
	"Sec-Websocket-Extensions": "permessage-deflate; client_max_window_bits",
	"User-Agent":               "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
}

func fromBrowser(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	for name, value := range browser {
		if _, ok := r.Header[name]; !ok {
			r.Header.Set(name, value)
		}
	}
	return r
}

// send sends the request, whose WebSocket p takes the place of, and reads a message.
func (p *probe) send(h http.Handler, r *http.Request) error {
	r = r.WithContext(streamctx.WithProbe(r.Context(), p.serve))
	s := memnet.NewServer(h, r, new(faults.Link))
	s.Start()
	defer s.Close()
	c, err := dial(s, r)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	_, _, err = c.Read(ctx)
	return err
}

// probe takes the place of the WebSocket.
type probe struct {
	once    sync.Once
	reached atomic.Bool
	done    chan struct{} // closed when the probe has ended

	// Read after done.
	found   []error
	refused bool                  // the upgrade failed, and found has the reason
	chain   []http.ResponseWriter // the wrappers, the outermost first
	kept    bool                  // one of them has kept the status of the handshake

	try func(http.ResponseWriter) // what to do instead of the upgrade; nil: nothing else
}

func (p *probe) serve(w http.ResponseWriter, r *http.Request, lacks error) {
	p.once.Do(func() {
		p.reached.Store(true)
		defer close(p.done)
		if lacks != nil {
			p.found = append(p.found, lacks)
		}
		p.examine(w, r)
	})
}

func (p *probe) examine(w http.ResponseWriter, r *http.Request) {
	claim := streamctx.ClaimOf(w, r)
	defer claim.Leave()
	p.chain = wrappers.All(claim.Writer)
	if p.try != nil {
		p.try(claim.Writer)
		return
	}
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
	status, known := wrappers.Sent(claim.Writer)
	p.kept = known && status == 0
	if err := c.Write(r.Context(), ws.Text, []byte("probe")); err != nil {
		p.found = append(p.found, err)
	}
}

// describe says what wraps the server's ResponseWriter.
func (p *probe) describe() string {
	types := make([]string, len(p.chain))
	for i, w := range p.chain {
		types[i] = fmt.Sprintf("%T", w)
	}
	return "the http.ResponseWriter is " + strings.Join(types, ", which wraps ")
}

// keeper sends another request to find out which wrapper keeps the status of the handshake,
// and returns an error that names it.
func (p *probe) keeper(h http.Handler, r *http.Request) error {
	who := "one of the wrappers"
	again := &probe{done: make(chan struct{})}
	again.try = func(w http.ResponseWriter) {
		for _, wrapper := range wrappers.All(w) {
			wrapper.WriteHeader(http.StatusSwitchingProtocols)
			if status, _ := wrappers.Sent(w); status != 0 {
				return
			}
			who = fmt.Sprintf("%T", wrapper) // it is this one, or one inside of it
		}
	}
	_ = again.send(h, r) // it has no handshake to end with
	return fmt.Errorf("%s keeps the status 101 to itself: the WebSocket works, but what it wraps, such as a log or a session, "+
		"does not get the status, or gets it when the handler has returned; "+
		"mount the WebSocket outside of the middleware that it belongs to, or middleware.Bypass outside of both (%s)", who, p.describe())
}
