package ssetest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/sse"
)

// patience is how long a Stream waits for what does not come.
const patience = time.Minute

// Stream is a client's view of a handler's event stream. It reads in the
// background, so that a test which sleeps is no slow client. Its methods are
// called by the test's goroutine; they fail the test where they cannot do what
// they are for.
type Stream struct {
	t       testing.TB
	server  *memnet.Server
	request *http.Request
	body    []byte // the request's

	response *http.Response // of the current connection
	cut      context.CancelFunc
	ended    chan struct{} // closed when nothing more is read

	mu     sync.Mutex // guards what follows
	events []sse.Event
	taken  int // how many of them have been returned
	beats  int
	last   string // event ID
	err    error  // how the connection ended; nil while it has not
	more   chan struct{}
}

// Connect makes a request of a handler, which runs in net/http's server in
// memory, and returns the stream that it answers with. It waits for the answer's
// header, whatever its status: see [Stream.Status]. All ends with the test; a
// handler that does not return then fails it.
//
// The request is one of httptest.NewRequest or http.NewRequest. The handler sees
// its RemoteAddr and the values in its context; the context's end is the
// client's. With a ProtoMajor of 2 it goes over HTTP/2.
func Connect(t testing.TB, h http.Handler, r *http.Request) *Stream {
	t.Helper()
	s := &Stream{
		t:       t,
		server:  memnet.NewServer(h, r, new(faults.Link)),
		request: r,
		last:    r.Header.Get("Last-Event-ID"),
		more:    make(chan struct{}, 1),
	}
	s.server.ConnContext = sse.ConnContext
	if r.Body != nil && r.ContentLength > 0 { // to be sent again by Reconnect
		var err error
		if s.body, err = io.ReadAll(r.Body); err != nil {
			t.Fatalf("ssetest: the request's body: %v", err)
		}
	}
	memnet.Serve(t, s.server)
	t.Cleanup(s.Close)
	s.connect()
	return s
}

func (s *Stream) connect() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.request.Context())
	s.cut = cancel
	impatient := time.AfterFunc(patience, cancel)
	r := memnet.ClientRequest(ctx, s.request)
	if s.last != "" {
		r.Header.Set("Last-Event-ID", s.last)
	}
	if s.body != nil {
		r.Body = io.NopCloser(bytes.NewReader(s.body))
	}
	response, err := s.server.Client().Do(r)
	if !impatient.Stop() && err != nil {
		err = fmt.Errorf("none has come in %v", patience)
	}
	if err != nil {
		s.t.Fatalf("ssetest: no answer: %v", err)
	}
	s.response, s.ended = response, make(chan struct{})
	s.err = nil
	go s.read(response)
}

// read reads a response to its end.
func (s *Stream) read(response *http.Response) {
	defer close(s.ended)
	defer response.Body.Close()
	t := tap{stream: s, from: response.Body, fresh: true}
	if response.Header.Get("Content-Encoding") == "gzip" {
		t.from = &unzipped{from: response.Body}
	}
	reader := sse.NewReader(&t)
	t.reader = reader
	for {
		event, err := reader.Read()
		t.note(nil)
		s.mu.Lock()
		if err == nil {
			s.events = append(s.events, event)
		} else {
			s.err = err
		}
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// unzipped reads what is compressed, as a browser does.
type unzipped struct {
	from io.Reader
	z    *gzip.Reader
}

func (u *unzipped) Read(p []byte) (n int, err error) {
	if u.z == nil {
		if u.z, err = gzip.NewReader(u.from); err != nil {
			return 0, err
		}
	}
	return u.z.Read(p)
}

// tap notes what goes by beside events: heartbeats and positions.
type tap struct {
	stream *Stream
	from   io.Reader
	reader *sse.Reader
	id     string // the reader's last event ID
	fresh  bool   // the next byte begins a line
}

func (t *tap) Read(p []byte) (int, error) {
	t.note(nil) // what came before has been read by now
	n, err := t.from.Read(p)
	t.note(p[:n])
	return n, err
}

func (t *tap) note(b []byte) {
	s := t.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := t.reader.LastEventID(); id != t.id {
		s.last, t.id = id, id
	}
	for _, c := range b {
		if t.fresh && c == ':' {
			s.beats++
		}
		t.fresh = c == '\n' || c == '\r'
	}
}

// Header returns the header of the answer.
func (s *Stream) Header() http.Header { return s.response.Header }

// Status returns the status of the answer: http.StatusOK for a stream.
func (s *Stream) Status() int { return s.response.StatusCode }

// Next returns the next event. It fails the test, with what was seen so far, if
// the stream ends or nothing comes for a minute.
func (s *Stream) Next() sse.Event {
	s.t.Helper()
	e, err := s.next(patience)
	if err != nil {
		s.t.Fatalf("ssetest: no event: %v\n%s", err, s.seen())
	}
	return e
}

// All returns the events that have not been returned yet, until the stream ends.
// It fails the test if nothing comes for a minute and the stream does not end
// either.
func (s *Stream) All() iter.Seq[sse.Event] {
	return func(yield func(sse.Event) bool) {
		s.t.Helper()
		for {
			e, err := s.next(patience)
			switch {
			case errors.Is(err, errNothing):
				s.t.Fatalf("ssetest: the stream does not end: %v\n%s", err, s.seen())
			case err != nil || !yield(e):
				return
			}
		}
	}
}

// Quiet waits for d, and fails the test if there is an event meanwhile, or was one
// that has not been returned yet. Heartbeats and positions are no events, and a stream
// that has ended is quiet, too.
func (s *Stream) Quiet(d time.Duration) {
	s.t.Helper()
	over := time.After(d)
	if e, err := s.next(d); err == nil {
		s.t.Fatalf("ssetest: an event has come: %s\n%s", text(e), s.seen())
	}
	<-over // it may have ended before
}

// End waits for the end of the stream, and returns nil if it was a proper one: the
// server ended its answer. Else it is the connection's error. It fails the test if
// for a minute there is neither an event nor the end. The events stay for Next.
func (s *Stream) End() error {
	s.t.Helper()
	s.mu.Lock()
	before := len(s.events)
	s.mu.Unlock()
	for ended := false; !ended; {
		timer := time.NewTimer(patience)
		select {
		case <-s.ended:
			ended = true
		case <-timer.C:
			s.mu.Lock()
			now := len(s.events)
			s.mu.Unlock()
			if now == before {
				s.t.Fatalf("ssetest: the stream does not end\n%s", s.seen())
			}
			before = now
		}
		timer.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == io.EOF {
		return nil
	}
	return s.err
}

// Heartbeats returns how many comments have come: lines that begin with a colon.
func (s *Stream) Heartbeats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beats
}

// LastEventID returns where the client would resume, as far as it has read.
func (s *Stream) LastEventID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Reconnect cuts the connection, if it is still there, and makes the request again
// with the last event ID, as a browser does. It does not wait, as a browser would.
// Events that came before and have not been returned come first.
func (s *Stream) Reconnect() {
	s.t.Helper()
	s.Close()
	s.connect()
}

// Close cuts the connection, as a client does that leaves.
func (s *Stream) Close() {
	s.cut()
	s.server.HangUp()
	if s.ended != nil {
		<-s.ended
	}
}

var errNothing = errors.New("nothing came")

// next waits for the next event, at most for d.
func (s *Stream) next(d time.Duration) (sse.Event, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		if e, ok, err := s.take(); ok || err != nil {
			return e, err
		}
		select {
		case <-s.more:
		case <-timer.C:
			return sse.Event{}, fmt.Errorf("%w in %v", errNothing, d)
		}
	}
}

func (s *Stream) take() (e sse.Event, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken < len(s.events) {
		e = s.events[s.taken]
		s.taken++
		return e, true, nil
	}
	switch {
	case s.err == io.EOF:
		return e, false, errors.New("the stream has ended")
	case s.err != nil:
		return e, false, fmt.Errorf("the stream has ended: %w", s.err)
	}
	return e, false, nil
}

// seen says what the stream was like so far.
func (s *Stream) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "status %d, %d heartbeats, last event ID %q, %d events", s.response.StatusCode, s.beats, s.last, len(s.events))
	const most = 20
	events := s.events
	if len(events) > most {
		fmt.Fprintf(&b, ", of which the last %d", most)
		events = events[len(events)-most:]
	}
	for _, e := range events {
		b.WriteString("\n  " + text(e))
	}
	return b.String()
}

func text(e sse.Event) string {
	data := e.Data
	if len(data) > 200 {
		data = append(bytes.Clone(data[:200]), "..."...)
	}
	return fmt.Sprintf("%q %q (id %q)", e.Type, data, e.ID)
}
