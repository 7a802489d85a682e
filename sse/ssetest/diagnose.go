package ssetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/diagnosis"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/wrappers"
	"github.com/fanfare-go/fanfare/sse"
)

// impatience is how long Diagnose waits for what should be there at once.
const impatience = time.Second

// Diagnose makes a request of a router with all its middleware, and reports what
// in the chain would break a stream in production, and what to do about it:
//
//   - Flush, or the connection's deadlines, that cannot be reached, with the type
//     of the wrapper in the way;
//   - a response that is held back, or compressed without flushing, with the type
//     of the wrapper that does it;
//   - a context that a timeout ends, and after how long;
//   - headers with which a proxy would cache, transform or hold back the stream.
//
// All that it finds is joined (errors.Join); nil means that nothing was found. A
// probe takes the place of the stream that the request reaches, a sse.Handler's or
// a sse.NewWriter's. The request has to get there: give it the credentials that
// the middleware wants.
func Diagnose(h http.Handler, r *http.Request) error {
	p := &probe{more: make(chan struct{}, 1), done: make(chan struct{})}
	r = r.WithContext(streamctx.WithProbe(r.Context(), p.serve))
	server := memnet.NewServer(h, r, new(faults.Link))
	server.Start()
	defer server.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	request := memnet.ClientRequest(ctx, r)
	for name, value := range map[string]string{
		"Accept":          "text/event-stream",
		"Accept-Encoding": "gzip, deflate, br, zstd", // as a browser has it
	} {
		if request.Header.Get(name) == "" {
			request.Header.Set(name, value)
		}
	}

	var response *http.Response
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if response, err = server.Client().Do(request); err == nil {
			_, _ = io.Copy(p, response.Body)
			response.Body.Close()
		}
	}()
	timer := time.NewTimer(10 * impatience)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
		if p.reached.Load() {
			<-p.done // it may have many wrappers to try
			p.arrives(p.received.Load())
		}
		cancel()
		<-answered
		if err = errors.New("its answer does not end"); response == nil {
			err = fmt.Errorf("no answer came in %v", 10*impatience)
		}
	}
	switch {
	case p.reached.Load():
		<-p.done
	case err != nil:
		return fmt.Errorf("ssetest: the request did not reach a stream: %w", err)
	default:
		return fmt.Errorf("ssetest: the request did not reach a stream: it was answered with %s", response.Status)
	}
	found := p.found
	if response != nil && p.begun && p.heldBack == "" { // the probe has spoilt a header that is held back
		found = append(found, checkHeader(response)...)
	}
	if p.heldBack != "" {
		how := "the response is held back"
		if response != nil && response.Header.Get("Content-Encoding") != "" {
			how = fmt.Sprintf("the response is compressed (%s) without flushing", response.Header.Get("Content-Encoding"))
		}
		found = append(found, fmt.Errorf("%s by %s: its Flush must pass on all that was written before; "+
			"let it leave %q alone, or mount the stream outside of it", how, p.heldBack, "text/event-stream"))
	}
	if len(found) == 0 {
		return nil
	}
	for i, err := range found {
		found[i] = fmt.Errorf("ssetest: %w", err)
	}
	return errors.Join(found...)
}

// probe is a short stream, which is told by its client what has arrived.
type probe struct {
	received atomic.Int64
	more     chan struct{} // has a token when something was received
	once     sync.Once
	reached  atomic.Bool
	done     chan struct{} // closed when it has ended; what follows may be read then
	found    []error
	begun    bool   // the stream's header was sent
	heldBack string // the type of the wrapper that does it
}

// Write notes what the client has received.
func (p *probe) Write(b []byte) (int, error) {
	p.received.Add(int64(len(b)))
	select {
	case p.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

// serve is what stands in the stream's place.
func (p *probe) serve(w http.ResponseWriter, r *http.Request) {
	p.once.Do(func() {
		p.reached.Store(true)
		defer close(p.done)
		p.examine(w, r)
	})
}

func (p *probe) examine(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			p.found = append(p.found, fmt.Errorf("the chain panics when a stream writes to it: %v", v))
		}
	}()
	claim := streamctx.ClaimOf(w, r)
	defer claim.Leave()
	chain := wrappers.All(claim.Writer)
	if err := diagnosis.Deadline(claim.Context); err != nil {
		p.found = append(p.found, err)
	}
	control := http.NewResponseController(claim.Writer)
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
		p.found = append(p.found, fmt.Errorf("the connection's deadlines cannot be reached past %T: http.Server's timeouts will cut the stream, "+
			"and a client that does not read is not cut; %s", chain[len(chain)-1], wrappers.Remedy))
	}
	writer, err := sse.NewWriter(w, r, &sse.Options{Heartbeat: -1})
	if err != nil {
		p.found = append(p.found, err)
		return
	}
	defer writer.Close()
	p.begun = true
	// More than one write: a compressor's first bytes are its own header.
	arrived := p.arrives(0)
	for i := 0; i < 2 && arrived; i++ {
		before := p.received.Load()
		if err := writer.Send(sse.Event{Type: "probe", Data: fmt.Appendf(nil, "%d", i)}); err != nil {
			p.found = append(p.found, err)
			return
		}
		arrived = p.arrives(before)
	}
	if !arrived {
		p.heldBack = p.culprit(chain)
	}
}

// arrives reports whether the client receives more than before, soon.
func (p *probe) arrives(before int64) bool {
	timer := time.NewTimer(impatience)
	defer timer.Stop()
	for p.received.Load() == before {
		select {
		case <-p.more:
		case <-timer.C:
			return false
		}
	}
	return true
}

// culprit writes past one wrapper after the other, until something arrives.
func (p *probe) culprit(chain []http.ResponseWriter) string {
	_ = http.NewResponseController(chain[0]).SetWriteDeadline(time.Time{}) // the last write's would pass in a long chain
	for i, w := range chain[1:] {
		before := p.received.Load()
		_, _ = io.WriteString(w, ":\n")
		_ = http.NewResponseController(w).Flush()
		if p.arrives(before) {
			return fmt.Sprintf("%T", chain[i])
		}
	}
	switch last := chain[len(chain)-1].(type) {
	case http.Hijacker, http.Pusher: // net/http's own, which holds nothing back
		return "what stands before the router"
	default:
		return fmt.Sprintf("%T", last)
	}
}

// checkHeader reports what middleware made of a stream's header.
func checkHeader(r *http.Response) (found []error) {
	if r.StatusCode != http.StatusOK {
		return []error{fmt.Errorf("the status is %s, not 200: a browser gives up", r.Status)}
	}
	if typ, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); typ != "text/event-stream" {
		found = append(found, fmt.Errorf("Content-Type is %q, not text/event-stream: a browser gives up", r.Header.Get("Content-Type")))
	}
	directives := strings.FieldsFunc(strings.ToLower(strings.Join(r.Header.Values("Cache-Control"), ",")),
		func(c rune) bool { return c == ',' || c == ' ' })
	for _, want := range []struct{ directive, danger string }{{"no-store", "keep"}, {"no-transform", "compress"}} {
		if !slices.Contains(directives, want.directive) {
			found = append(found, fmt.Errorf("Cache-Control is %q, without %s: a proxy may %s the stream; let middleware leave it as the stream sets it",
				r.Header.Get("Cache-Control"), want.directive, want.danger))
		}
	}
	if r.Header.Get("X-Accel-Buffering") != "no" {
		found = append(found, errors.New("X-Accel-Buffering is not no: nginx will hold the stream back"))
	}
	if r.Header.Get("Content-Length") != "" {
		found = append(found, errors.New("there is a Content-Length, at which the stream will be cut"))
	}
	return found
}
