package sse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/internal/backoff"
	"github.com/fanfare-go/fanfare/internal/status"
)

const (
	defaultMaxBackoff = 30 * time.Second
)

// Client follows event streams as a browser's EventSource does: it reconnects by
// itself, and resumes after the last event it got (WHATWG HTML 9.2.3). The zero Client
// is ready to use.
//
// The fields are set before the first use. A Client is safe for concurrent use, and may
// follow any number of streams at once.
type Client struct {
	// HTTPClient makes the requests. Its Timeout has to be zero: it would cut streams,
	// which have no end. If nil, http.DefaultClient.
	HTTPClient *http.Client

	// MaxBackoff bounds the random time to wait before another attempt. The bound is
	// half a second at first, and doubles with each attempt up to MaxBackoff. It starts
	// over after an event, and after a connection that lasted for 5 s. The time that the
	// server asked for, with retry or Retry-After, is added. If zero, 30 s. If negative,
	// Events yields an error.
	MaxBackoff time.Duration

	// MaxEvent is the largest event in bytes; see [Reader.MaxEvent]. If zero, 1 MiB. If
	// negative, Events yields an error.
	MaxEvent int

	// Silence is how long a connection may be silent, without even a heartbeat, before
	// it is replaced. If zero, 45 s, or three intervals of the heartbeats if the stream of a
	// Handler says that they are longer. If negative, there is no limit: for servers that
	// send no heartbeats.
	Silence time.Duration

	// Retry reports whether to try again after an answer that is no event stream: any
	// but status 200 with the type text/event-stream. An EventSource gives up on these
	// (9.2.3). Retry is not called for 204, which ends the events. If nil, never. A
	// program that has no user to reload the page usually wants
	//
	//	func(e *sse.ResponseError) bool { return e.Temporary() }
	//
	// Even a 400 may pass: net/http sends it when the rest of a request takes too long
	// to arrive.
	Retry func(*ResponseError) bool

	// Repeat sends any request again after its connection has ended. If false, that holds
	// for idempotent methods alone: GET, HEAD, OPTIONS, TRACE, PUT and DELETE (RFC 9110
	// section 9.2.2). Any other request, such as a POST that has an answer generated, is
	// sent again only where it has not reached the server, and where Retry wants it.
	Repeat bool

	// Logger gets the end of each connection at Debug. If nil, slog.Default().
	Logger *slog.Logger
}

// ResponseError is an answer that is no event stream.
type ResponseError struct {
	Status      int           // the status of the answer
	ContentType string        // its header Content-Type
	RetryAfter  time.Duration // its header Retry-After; 0 if it has none
}

func (e *ResponseError) Error() string {
	if e.Status == http.StatusOK {
		return fmt.Sprintf("sse: the answer is %.100q, not text/event-stream", e.ContentType)
	}
	return fmt.Sprintf("sse: the answer is %d %s", e.Status, http.StatusText(e.Status))
}

// Temporary reports whether the same request may succeed later: after 408, 425, 429
// and 5xx.
func (e *ResponseError) Temporary() bool { return status.MayPass(e.Status) }

// Events returns the events of the stream that r requests, over as many connections as
// it takes. The ID of an event is the last event ID of the stream, as in [Reader.Read]:
// it is sent back as Last-Event-ID. Set that header of r to begin after an event.
//
// The sequence ends when the loop does, without an error when the server answers 204,
// and with the cause of r's context, yielded last, when that has ended. It also ends with
// an error that another attempt cannot mend: a [*ResponseError] that Retry did not want
// to pass over, one that wraps [ErrTooLarge], or one that names what is wrong with r or
// with a field of c. A connection that fails is no error: the Client reconnects.
//
// A request that is not repeated (see Client.Repeat) has one stream. The sequence ends with
// it, without an error where the response has a proper end, else with the error of the
// connection.
//
// Events keeps r and does not change it. If r has a body, it needs GetBody, since the
// body is sent with each request; http.NewRequest sets it for a body in memory. The
// Client closes the bodies of the responses. Each range over the sequence begins anew.
func (c *Client) Events(r *http.Request) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := follower{
			client:      c,
			httpClient:  cmp.Or(c.HTTPClient, http.DefaultClient),
			request:     r,
			lastEventID: r.Header.Get("Last-Event-ID"),
			backoff:     backoff.Backoff{Most: cmp.Or(c.MaxBackoff, defaultMaxBackoff)},
		}
		if err := f.run(yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// check returns an error if c cannot follow the stream of r.
func (c *Client) check(r *http.Request) error {
	switch {
	case c.HTTPClient != nil && c.HTTPClient.Timeout != 0:
		return fmt.Errorf("sse: Client.HTTPClient.Timeout is %v, which would cut streams: set it to 0, and bound dialing in the Transport", c.HTTPClient.Timeout)
	case c.MaxBackoff < 0:
		return fmt.Errorf("sse: Client.MaxBackoff is %v: set it to 0 for %v", c.MaxBackoff, defaultMaxBackoff)
	case c.MaxEvent < 0:
		return fmt.Errorf("sse: Client.MaxEvent is %d: set it to 0 for %d", c.MaxEvent, defaultMaxEvent)
	case r.URL == nil || r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return errors.New("sse: the request's URL has neither the scheme http nor https")
	case r.Body != nil && r.Body != http.NoBody && r.GetBody == nil:
		return errors.New("sse: the request's body can be sent only once: set GetBody, with which it can be sent again")
	}
	return nil
}

// follower is one range over the events of a request.
type follower struct {
	// Set by Events.
	client     *Client
	httpClient *http.Client
	request    *http.Request

	// Kept from one connection to the next.
	lastEventID string
	retry       time.Duration // the reconnection time that the server sent last
	backoff     backoff.Backoff
}

// connectionError is a connection that failed. The follower reconnects after it; any
// other error of connect is final, unless Client.Retry decides otherwise.
type connectionError struct {
	error
	unsent bool // the request has not reached the server
	ended  bool // the stream had a proper end
}

// errSilent is the cause of a connection that was given up for being silent.
var errSilent = errors.New("nothing has arrived for too long")

// run connects until the events have ended, and returns the error with which they did.
func (f *follower) run(yield func(Event, error) bool) error {
	if err := f.client.check(f.request); err != nil {
		return err
	}
	ctx := f.request.Context()
	for {
		began := time.Now()
		err := f.connect(yield)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		least, ok := f.again(err)
		if !ok {
			return final(err)
		}
		if time.Since(began) >= backoff.Good {
			f.backoff.Reset()
		}
		wait := f.backoff.Next(least)
		cmp.Or(f.client.Logger, slog.Default()).Debug("sse: the connection has ended",
			"url", f.request.URL.Redacted(), "reason", err, "again_in", wait)
		if err := backoff.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// again reports whether to connect again after err, and the least time to wait before.
func (f *follower) again(err error) (least time.Duration, ok bool) {
	switch err := err.(type) {
	case *connectionError:
		return f.retry, err.unsent || f.client.Repeat || idempotent(f.request.Method)
	case *ResponseError:
		return max(f.retry, err.RetryAfter), f.client.Retry != nil && f.client.Retry(err)
	}
	return 0, false
}

// connect makes the request once and yields its events. It returns nil if the events
// have ended, which is after 204 and when the loop has.
func (f *follower) connect(yield func(Event, error) bool) error {
	ctx, cancel := context.WithCancelCause(f.request.Context())
	defer cancel(nil)
	r, err := f.newRequest(ctx)
	if err != nil {
		return err
	}
	timer := newSilenceTimer(f.client.Silence, func() { cancel(errSilent) })
	timer.start(0)
	response, err := f.httpClient.Do(r)
	timer.stop()
	if err != nil {
		failed := f.failed(ctx, err)
		failed.unsent = notSent(err)
		return failed
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNoContent {
		return nil
	}
	contentType := response.Header.Get("Content-Type")
	if media, _, _ := mime.ParseMediaType(contentType); response.StatusCode != http.StatusOK || media != "text/event-stream" {
		return &ResponseError{response.StatusCode, contentType, status.RetryAfter(response.Header)}
	}
	body := &timedReader{body: response.Body, timer: timer}
	reader := NewReader(body)
	body.reader = reader
	reader.MaxEvent = f.client.MaxEvent
	reader.setLastEventID(f.lastEventID)
	err = f.yieldEvents(reader, yield)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("%w: raise Client.MaxEvent to read it", err)
	}
	failed := f.failed(ctx, err)
	failed.ended = err == io.EOF
	return failed
}

// newRequest returns the request for the next connection.
func (f *follower) newRequest(ctx context.Context) (*http.Request, error) {
	r := f.request.Clone(ctx)
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, fmt.Errorf("sse: GetBody of the request: %w", err)
		}
		r.Body = body
	}
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "text/event-stream")
	}
	if r.Header.Get("Cache-Control") == "" {
		r.Header.Set("Cache-Control", "no-store")
	}
	r.Header.Del("Last-Event-ID")
	if f.lastEventID == "" {
		return r, nil
	}
	if !validHeaderValue(f.lastEventID) {
		return nil, fmt.Errorf("sse: the event ID %.100q cannot be sent in a header, so the stream cannot be resumed", f.lastEventID)
	}
	r.Header.Set("Last-Event-ID", f.lastEventID)
	return r, nil
}

// yieldEvents yields events until the stream ends, with its error, or the loop does, with
// nil.
func (f *follower) yieldEvents(reader *Reader, yield func(Event, error) bool) error {
	for {
		e, err := reader.Read()
		if id := reader.LastEventID(); err == nil || id != f.lastEventID {
			f.lastEventID = id
			f.backoff.Reset()
		}
		if retry := reader.Retry(); retry > 0 {
			f.retry = retry
		}
		if err != nil {
			return err
		}
		reader.readInterval(e)
		if !yield(e, nil) {
			return nil
		}
	}
}

// failed returns the connectionError for err. Over HTTP/2 a silent connection would serve
// the next request too, so failed closes it.
func (f *follower) failed(ctx context.Context, err error) *connectionError {
	if context.Cause(ctx) == errSilent {
		f.httpClient.CloseIdleConnections()
		err = errSilent
	}
	return &connectionError{error: fmt.Errorf("sse: %w", err)}
}

// idempotent reports whether a request with this method may be repeated (RFC 9110 section
// 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// notSent reports whether err, of a request, says that there was no connection to send it
// over.
func notSent(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return ok && (failed.Op == "dial" || failed.Op == "proxyconnect")
}

// final returns the error with which the events end after err of connect: none after a
// proper end.
func final(err error) error {
	failed, ok := err.(*connectionError)
	switch {
	case !ok:
		return err
	case failed.ended:
		return nil
	}
	return failed.error
}

// validHeaderValue reports whether net/http sends value in a header (RFC 9110 section
// 5.5).
func validHeaderValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
