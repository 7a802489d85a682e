package sse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/internal/backoff"
	"github.com/fanfare-go/fanfare/internal/status"
)

// Client reads event streams as a browser's EventSource does: it reconnects by itself,
// and resumes behind the last event it got (WHATWG HTML 9.2.3). The zero Client works.
//
// A Client may serve any number of streams at once.
type Client struct {
	// HTTPClient makes the requests. Its Timeout must be zero, since streams have no end. If
	// nil, http.DefaultClient.
	HTTPClient *http.Client

	// MaxBackoff bounds what is waited before another attempt, on top of what the
	// server has asked for with retry or Retry-After: any time up to half a second
	// first, up to twice as much after each attempt that came to nothing. If zero, 30 s.
	MaxBackoff time.Duration

	// MaxEvent is the most bytes that the data of an event may have; see
	// [Reader.MaxEvent]. If zero, 1 MiB.
	MaxEvent int

	// Silence is how long nothing may come, not even a heartbeat, before the
	// connection is given up and made anew. If zero, 45 s; if negative, for ever:
	// for servers that send no heartbeats.
	Silence time.Duration

	// Retry decides whether to try again after an answer that ends the stream by the
	// standard: any that is not 200 with the type text/event-stream. 204 is never asked
	// about. If nil, no. What most want that do not have a user to reload the page is
	//
	//	func(e *sse.ResponseError) bool { return e.Temporary() }
	//
	// A 400 may pass too: net/http says so when it has waited too long for the rest of
	// a request, on a link that stalls.
	Retry func(*ResponseError) bool

	// Logger gets connections that end (Debug). If nil, slog.Default().
	Logger *slog.Logger
}

// ResponseError is an answer that is no event stream.
type ResponseError struct {
	Status      int           // of HTTP
	ContentType string        // as the header has it
	RetryAfter  time.Duration // what the header asks for; 0: nothing
}

func (e *ResponseError) Error() string {
	if e.Status == http.StatusOK {
		return fmt.Sprintf("sse: the answer is %.100q, not text/event-stream", e.ContentType)
	}
	return fmt.Sprintf("sse: the answer is %d %s", e.Status, http.StatusText(e.Status))
}

// Temporary reports whether the status says that the same request may be answered
// otherwise later: 408, 425, 429 and 5xx.
func (e *ResponseError) Temporary() bool { return status.MayPass(e.Status) }

// Events returns the events of a stream, over as many connections as it takes. An
// event's ID is the stream's last event ID, which is sent back as Last-Event-ID; begin
// somewhere by setting that header. A body is sent again with each request: it needs
// GetBody, which http.NewRequest sets for what is in memory.
//
// The sequence goes on until the loop ends or the request's context does, whose error
// it then yields last. It ends without an error when the server answers 204, by which
// it tells a client to stop. Any other error is yielded last, too: a [*ResponseError]
// that Retry did not want to try again after, [ErrTooLarge], or what makes the request
// impossible. Connections that fail are no errors.
//
// A request may be made again by each range over the sequence, which then begins
// anew.
func (c *Client) Events(r *http.Request) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := source{Client: c, request: r, id: r.Header.Get("Last-Event-ID"), backoff: backoff.Backoff{Most: c.MaxBackoff}}
		if err := s.run(yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// source is one range over the events of a request.
type source struct {
	*Client
	request *http.Request
	id      string        // the last event ID
	retry   time.Duration // what the server has asked for last
	backoff backoff.Backoff
}

// errDone ends a sequence without an error.
var errDone = errors.New("sse: done")

// run connects until something final happens, which it returns.
func (s *source) run(yield func(Event, error) bool) error {
	switch {
	case s.HTTPClient != nil && s.HTTPClient.Timeout != 0:
		return fmt.Errorf("sse: Client.HTTPClient.Timeout is %v, which would cut streams: set it to 0, and bound dialing in the Transport", s.HTTPClient.Timeout)
	case s.request.URL == nil || s.request.URL.Scheme != "http" && s.request.URL.Scheme != "https":
		return errors.New("sse: the request's URL has neither the scheme http nor https")
	case s.request.Body != nil && s.request.Body != http.NoBody && s.request.GetBody == nil:
		return errors.New("sse: the request's body can be sent only once: set GetBody, with which it can be sent again")
	}
	for {
		began := time.Now()
		err := s.connect(yield)
		if time.Since(began) >= backoff.Good {
			s.backoff.Reset()
		}
		if errors.Is(err, errDone) {
			return nil
		}
		if s.request.Context().Err() != nil {
			return context.Cause(s.request.Context())
		}
		least := s.retry
		if refused, ok := errors.AsType[*ResponseError](err); ok {
			if s.Retry == nil || !s.Retry(refused) {
				return err
			}
			least = max(least, refused.RetryAfter)
		}
		if final, ok := errors.AsType[*finalError](err); ok {
			return final.error
		}
		wait := s.backoff.Next(least)
		s.logger().Debug("sse: the connection has ended", "url", s.request.URL.Redacted(), "reason", err, "again_in", wait)
		if err := backoff.Sleep(s.request.Context(), wait); err != nil {
			return err
		}
	}
}

// finalError is one after which another attempt would end the same way.
type finalError struct{ error }

var errSilent = errors.New("nothing has come for too long")

// connect makes the request once, and yields what comes. It returns why it has ended,
// which is never nil.
func (s *source) connect(yield func(Event, error) bool) error {
	ctx, cancel := context.WithCancelCause(s.request.Context())
	defer cancel(nil)
	r := s.request.Clone(ctx)
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return &finalError{fmt.Errorf("sse: the request's body, again: %w", err)}
		}
		r.Body = body
	}
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "text/event-stream")
	}
	if r.Header.Get("Cache-Control") == "" {
		r.Header.Set("Cache-Control", "no-store")
	}
	if r.Header.Del("Last-Event-ID"); s.id != "" {
		if !sendable(s.id) {
			return &finalError{fmt.Errorf("sse: the event ID %.100q cannot be sent in a header, so that the stream cannot be resumed", s.id)}
		}
		r.Header.Set("Last-Event-ID", s.id)
	}
	client := s.HTTPClient
	if client == nil {
		client = http.DefaultClient
	}
	guard := s.watch(func() { cancel(errSilent) })
	guard.begin()
	response, err := client.Do(r)
	guard.end()
	if err != nil {
		return ended(ctx, client, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNoContent {
		return errDone
	}
	contentType := response.Header.Get("Content-Type")
	if media, _, _ := mime.ParseMediaType(contentType); response.StatusCode != http.StatusOK || media != "text/event-stream" {
		return &ResponseError{response.StatusCode, contentType, status.RetryAfter(response.Header)}
	}
	guard.src = response.Body
	reader := NewReader(guard)
	reader.MaxEvent = s.MaxEvent
	reader.block.ID, reader.lastID = s.id, s.id // events without an ID have the last one's, from before too
	for {
		e, err := reader.Read()
		if id := reader.LastEventID(); err == nil || id != s.id {
			s.id = id
			s.backoff.Reset()
		}
		if retry := reader.Retry(); retry > 0 {
			s.retry = retry
		}
		switch {
		case errors.Is(err, ErrTooLarge):
			return &finalError{err}
		case err != nil:
			return ended(ctx, client, err)
		case !yield(e, nil):
			return errDone
		}
	}
}

// ended returns why a connection has ended. One that was silent may go on to be used
// for other requests, over HTTP/2, unless it is closed.
func ended(ctx context.Context, client *http.Client, err error) error {
	if context.Cause(ctx) == errSilent {
		client.CloseIdleConnections()
		return fmt.Errorf("sse: %w", errSilent)
	}
	return fmt.Errorf("sse: reading: %w", err)
}

// sendable reports whether net/http takes a text as the value of a header (RFC 9110
// section 5.5).
func sendable(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// watchdog is a body that nothing may be waited for too long from. Only waiting counts:
// who handles an event may take as long as he likes.
type watchdog struct {
	src     io.Reader
	timer   *time.Timer
	silence time.Duration
}

func (s *source) watch(bark func()) *watchdog {
	silence := orDefault(s.Silence, 45*time.Second)
	if silence == 0 {
		return &watchdog{}
	}
	w := &watchdog{silence: silence, timer: time.AfterFunc(silence, bark)}
	w.timer.Stop()
	return w
}

func (w *watchdog) begin() {
	if w.timer != nil {
		w.timer.Reset(w.silence)
	}
}

func (w *watchdog) end() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watchdog) Read(p []byte) (int, error) {
	w.begin()
	defer w.end()
	return w.src.Read(p)
}

func (c *Client) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.Default()
	}
	return c.Logger
}
