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
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/wrappers"
	"github.com/fanfare-go/fanfare/sse"
)

const (
	// arrivalTimeout is how long Diagnose waits for bytes that should arrive at once.
	arrivalTimeout = time.Second

	// answerTimeout is how long it waits for the end of the response.
	answerTimeout = 10 * arrivalTimeout
)

// Diagnose sends a request through a router with all its middleware. It reports what in
// the chain would break a stream in production, and what to do about it:
//
//   - a Flush that cannot be reached, or deadlines of the connection that cannot, with the
//     type of the wrapper in the way;
//   - a response that is held back, or compressed without flushing, with the type of the
//     wrapper that does it;
//   - a response whose body is kept in memory, as some access logs do;
//   - a context that a timeout ends, and after how long;
//   - a Content-Encoding that does not fit the bytes;
//   - headers that let a proxy cache, transform or hold back the stream;
//   - an sse.Handler without a Broadcaster, or with neither Topics nor Grant.
//
// It returns nil if it found nothing, else its findings, joined by errors.Join. A request
// that reaches no stream is an error, too: give r the credentials that the middleware
// wants.
//
// A probe answers the request in place of the sse.Handler or the sse.NewWriter that it
// reaches: NewWriter returns an error to its handler, and no Grant is called. Diagnose
// takes some seconds if something is wrong, in fake time within a synctest bubble. It
// does not see what ends a stream later on, such as a middleware that cancels the context
// itself, nor a proxy before the router.
func Diagnose(h http.Handler, r *http.Request) error {
	p := &probe{more: make(chan struct{}, 1), done: make(chan struct{})}
	r = r.WithContext(streamctx.WithProbe(r.Context(), p.serve))
	server := memnet.NewServer(h, r, new(faults.Link))
	server.Start()
	defer server.Close()
	response, err := p.request(server, r)
	switch {
	case p.reached.Load():
		<-p.done
	case err != nil:
		return fmt.Errorf("ssetest: the request did not reach a stream: %w", err)
	default:
		return fmt.Errorf("ssetest: the request did not reach a stream: it was answered with %s", response.Status)
	}
	found := p.findings(response)
	for i, err := range found {
		found[i] = fmt.Errorf("ssetest: %w", err)
	}
	return errors.Join(found...)
}

// probe is a short stream whose client lets it know which bytes have arrived.
type probe struct {
	// Set by the client while it reads.
	received atomic.Int64  // bytes
	more     chan struct{} // has a token if bytes were received since it was last emptied
	kept     []byte        // the beginning of the body; read once the client has ended

	// Set by the handler that the request reaches.
	once    sync.Once
	reached atomic.Bool
	done    chan struct{} // closed once the probe has ended

	// Owned by that handler until done is closed.
	found      []error
	begun      bool   // the header was sent
	failed     bool   // an error has ended the stream, and is among found
	heldBackBy string // what holds the response back; empty: nothing
}

// request sends r as a browser would, and reads the answer to its end or until
// answerTimeout. It returns an error if there is no answer, or no end of one.
func (p *probe) request(server *memnet.Server, r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var response *http.Response
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if response, err = server.Client().Do(browserRequest(ctx, r)); err == nil {
			_, _ = io.Copy(p, response.Body)
			response.Body.Close()
		}
	}()
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case <-answered:
		return response, err
	case <-timer.C:
	}
	if p.reached.Load() {
		<-p.done // there may be many wrappers to try
		p.arrives(p.received.Load())
	}
	cancel()
	<-answered
	if response == nil {
		return nil, fmt.Errorf("no answer came in %v", answerTimeout)
	}
	return response, errors.New("its answer does not end")
}

// browserRequest returns r as a browser sends it.
func browserRequest(ctx context.Context, r *http.Request) *http.Request {
	request := memnet.ClientRequest(ctx, r)
	for name, value := range map[string]string{
		"Accept":          "text/event-stream",
		"Accept-Encoding": "gzip, deflate, br, zstd",
	} {
		if request.Header.Get(name) == "" {
			request.Header.Set(name, value)
		}
	}
	return request
}

// Write counts what the client has received, and keeps the beginning.
func (p *probe) Write(b []byte) (int, error) {
	p.kept = append(p.kept, b[:min(len(b), maxKept-len(p.kept))]...)
	p.received.Add(int64(len(b)))
	select {
	case p.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

// arrives reports whether the client receives more than before within arrivalTimeout.
func (p *probe) arrives(before int64) bool {
	timer := time.NewTimer(arrivalTimeout)
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

// serve answers the request in place of the stream that it reached.
func (p *probe) serve(w http.ResponseWriter, r *http.Request, lacks error) {
	p.once.Do(func() {
		p.reached.Store(true)
		defer close(p.done)
		if lacks != nil {
			p.found = append(p.found, lacks)
		}
		err := guard.Call("a middleware", func() error { return p.examine(w, r) })
		if panicked, ok := errors.AsType[*guard.PanicError](err); ok {
			err = fmt.Errorf("the chain panics when a stream writes to it: %v", panicked.Value)
		}
		if err != nil {
			p.found, p.failed = append(p.found, err), true
		}
	})
}

// examine looks at the ResponseWriter and the context that a stream has, and then streams.
// It returns the error that ends the stream.
func (p *probe) examine(w http.ResponseWriter, r *http.Request) error {
	claim := streamctx.ClaimOf(w, r)
	defer claim.Leave()
	chain := wrappers.All(claim.Writer)
	if err := diagnosis.Deadline(claim.Context); err != nil {
		p.found = append(p.found, err)
	}
	control := http.NewResponseController(claim.Writer)
	if errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})) != nil {
		p.found = append(p.found, fmt.Errorf("the connection's deadlines cannot be reached past %T: the timeouts of http.Server will cut the stream, "+
			"and a client that does not read is not cut; %s", chain[len(chain)-1], wrappers.Remedy))
	}
	writer, err := sse.NewWriter(w, r, &sse.Options{Heartbeat: -1})
	if err != nil {
		return err
	}
	defer writer.Close()
	p.begun = true
	arrived, err := p.stream(writer)
	if err == nil && !arrived {
		p.heldBackBy = p.findHoldingBack(chain)
	}
	if err == nil && arrived {
		err = p.checkRetention(writer, chain)
	}
	return err
}

// stream sends events, and reports whether all of them arrived, as well as the beginning.
// The first bytes alone prove nothing: they may be the header of a compressed format.
func (p *probe) stream(writer *sse.Writer) (arrived bool, err error) {
	arrived = p.arrives(0)
	for i := 0; i < 2 && arrived; i++ {
		before := p.received.Load()
		if err := writer.Send(sse.Event{Type: probeType, Data: fmt.Appendf(nil, "%d", i)}); err != nil {
			return false, err
		}
		arrived = p.arrives(before)
	}
	return arrived, nil
}

// findHoldingBack writes past one wrapper after the other until bytes arrive, and returns
// the type of the last one that was passed.
func (p *probe) findHoldingBack(chain []http.ResponseWriter) string {
	_ = http.NewResponseController(chain[0]).SetWriteDeadline(time.Time{}) // it would pass in a long chain
	for i, w := range chain[1:] {
		before := p.received.Load()
		_, _ = io.WriteString(w, ":\n")
		_ = http.NewResponseController(w).Flush()
		if p.arrives(before) {
			return fmt.Sprintf("%T", chain[i])
		}
	}
	switch last := chain[len(chain)-1].(type) {
	case http.Hijacker, http.Pusher: // net/http's own, which passes on what is flushed
		return "what stands before the router"
	default:
		return fmt.Sprintf("%T", last)
	}
}

// findings returns what the probe has found, and what is wrong with the response.
func (p *probe) findings(response *http.Response) []error {
	if p.heldBackBy == "" {
		if response == nil || !p.begun {
			return p.found
		}
		found := append(p.found, checkHeader(response)...)
		if err := checkLabel(response.Header, p.kept); err != nil && response.StatusCode == http.StatusOK && !p.failed {
			found = append(found, err)
		}
		return found
	}
	// The header of a response that is held back is not the stream's: the probe has
	// written past it.
	how := "the response is held back"
	if response != nil && response.Header.Get("Content-Encoding") != "" {
		how = fmt.Sprintf("the response is compressed (%s) without flushing", response.Header.Get("Content-Encoding"))
	}
	return append(p.found, fmt.Errorf("%s by %s: its Flush has to pass on all that was written before; "+
		"let it leave %q alone, or mount the stream outside of it", how, p.heldBackBy, "text/event-stream"))
}

// checkHeader returns what is wrong with the header of a stream.
func checkHeader(r *http.Response) (found []error) {
	if r.StatusCode != http.StatusOK {
		return []error{fmt.Errorf("the status is %s, not 200: a browser gives up", r.Status)}
	}
	if typ, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); typ != "text/event-stream" {
		found = append(found, fmt.Errorf("Content-Type is %q, not text/event-stream: a browser gives up", r.Header.Get("Content-Type")))
	}
	directives := strings.FieldsFunc(strings.ToLower(strings.Join(r.Header.Values("Cache-Control"), ",")),
		func(c rune) bool { return c == ',' || c == ' ' })
	for _, want := range []struct{ directive, danger string }{{"no-store", "cache"}, {"no-transform", "compress"}} {
		if !slices.Contains(directives, want.directive) {
			found = append(found, fmt.Errorf("Cache-Control is %q, without %s: a proxy may %s the stream; keep the header that the stream sets",
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
