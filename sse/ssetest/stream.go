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

// timeout is how long a Stream waits for an event, an answer or an end before it fails
// the test.
const timeout = time.Minute

// Stream is a client of a handler's event stream. It reads in the background, so that a
// test may sleep without being a slow client. [Connect] returns one.
//
// Its methods are called by the goroutine of the test. A method that cannot return what
// it is for fails the test with Fatalf, and reports what the client has received so far.
type Stream struct {
	// Set by Connect.
	t       testing.TB
	server  *memnet.Server
	request *http.Request
	body    []byte        // of the request
	more    chan struct{} // has a token if the reader has added something

	// Set by connect, for each connection.
	response   *http.Response
	cancel     context.CancelFunc // of the request
	readerDone chan struct{}      // closed when the response has been read

	// Guarded by mu.
	mu          sync.Mutex
	events      []sse.Event
	returned    int // how many of events have been returned
	heartbeats  int
	lastEventID string
	err         error // how the connection ended; nil until then
}

// Connect requests a stream from a handler, which runs in net/http's server in memory. It
// returns once the header of the answer has arrived, whatever its status; see
// [Stream.Status]. It fails the test if none arrives for a minute.
//
// The request is one of httptest.NewRequest or http.NewRequest. The handler sees its
// headers, its body, its RemoteAddr, its TLS, and the values of its context. When its
// context ends, the client leaves. If its ProtoMajor is 2, it is sent over HTTP/2. Pass
// it through faults.Via to let its connection fail.
//
// When the test ends, the Stream is closed and the server with it. A handler that does
// not return within a minute then fails the test.
func Connect(t testing.TB, h http.Handler, r *http.Request) *Stream {
	t.Helper()
	s := &Stream{
		t:           t,
		server:      memnet.NewServer(h, r, new(faults.Link)),
		request:     r,
		lastEventID: r.Header.Get("Last-Event-ID"),
		more:        make(chan struct{}, 1),
	}
	s.server.ConnContext = sse.ConnContext
	if r.Body != nil && r.ContentLength > 0 { // Reconnect sends it again
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

// connect sends the request and starts to read the answer.
func (s *Stream) connect() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.request.Context())
	s.cancel = cancel
	timer := time.AfterFunc(timeout, cancel)
	r := memnet.ClientRequest(ctx, s.request)
	if s.lastEventID != "" {
		r.Header.Set("Last-Event-ID", s.lastEventID)
	}
	if s.body != nil {
		r.Body = io.NopCloser(bytes.NewReader(s.body))
	}
	response, err := s.server.Client().Do(r)
	if timedOut := !timer.Stop(); timedOut && err != nil {
		err = fmt.Errorf("none has arrived in %v", timeout)
	}
	if err != nil {
		s.t.Fatalf("ssetest: no answer: %v", err)
	}
	s.response = response
	s.readerDone = make(chan struct{})
	s.err = nil
	go s.read(response)
}

// read reads a response to its end.
func (s *Stream) read(response *http.Response) {
	defer close(s.readerDone)
	defer response.Body.Close()
	o := observer{stream: s, source: response.Body, atLineStart: true}
	if response.Header.Get("Content-Encoding") == "gzip" {
		o.source = &gunzipper{source: response.Body}
	}
	reader := sse.NewReader(&o)
	o.reader = reader
	for {
		event, err := reader.Read()
		o.observeID()
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

// gunzipper decompresses a response, as a browser does.
type gunzipper struct {
	source       io.Reader
	decompressed *gzip.Reader // nil until the first Read: NewReader waits for bytes
}

func (g *gunzipper) Read(p []byte) (n int, err error) {
	if g.decompressed == nil {
		if g.decompressed, err = gzip.NewReader(g.source); err != nil {
			return 0, err
		}
	}
	return g.decompressed.Read(p)
}

// observer is what the reader of a Stream reads from. It counts heartbeats and follows the
// last event ID, which change without an event.
type observer struct {
	stream      *Stream
	source      io.Reader
	reader      *sse.Reader
	id          string // the last event ID that the reader has had
	atLineStart bool   // the next byte begins a line
	comment     []byte // the beginning of a comment whose end has not arrived
}

func (o *observer) Read(p []byte) (int, error) {
	o.observeID() // the reader has parsed what it read before
	n, err := o.source.Read(p)
	o.countHeartbeats(p[:n])
	return n, err
}

func (o *observer) observeID() {
	id := o.reader.LastEventID()
	if id == o.id {
		return
	}
	o.id = id
	o.stream.mu.Lock()
	defer o.stream.mu.Unlock()
	o.stream.lastEventID = id
}

// interval begins the comment with which a Handler's stream says how often heartbeats are
// sent.
const interval = ": heartbeat "

func (o *observer) countHeartbeats(b []byte) {
	o.stream.mu.Lock()
	defer o.stream.mu.Unlock()
	for _, c := range b {
		end := c == '\n' || c == '\r'
		switch {
		case end && o.comment != nil:
			if !bytes.HasPrefix(o.comment, []byte(interval)) {
				o.stream.heartbeats++
			}
			o.comment = nil
		case o.atLineStart && c == ':', o.comment != nil && len(o.comment) < len(interval):
			o.comment = append(o.comment, c)
		}
		o.atLineStart = end
	}
}

// Header returns the header of the answer.
func (s *Stream) Header() http.Header { return s.response.Header }

// Status returns the status of the answer, which is 200 for a stream.
func (s *Stream) Status() int { return s.response.StatusCode }

// Next returns the next event. That may be one of the stream's own: of type gap, where messages
// were lost, or begin, where the events that follow are the beginning of topics, so that a page
// forgets what it has of them; [Values] does that. It fails the test if the stream ends, or if no event
// arrives for a minute.
func (s *Stream) Next() sse.Event {
	s.t.Helper()
	e, err := s.next(timeout)
	if err != nil {
		s.t.Fatalf("ssetest: no event: %v\n%s", err, s.summary())
	}
	return e
}

// All returns the events that have not been returned yet, until the stream ends. It fails
// the test if for a minute there is neither an event nor the end.
func (s *Stream) All() iter.Seq[sse.Event] {
	return func(yield func(sse.Event) bool) {
		s.t.Helper()
		for {
			e, err := s.next(timeout)
			switch {
			case errors.Is(err, errNothing):
				s.t.Fatalf("ssetest: the stream does not end: %v\n%s", err, s.summary())
			case err != nil || !yield(e):
				return
			}
		}
	}
}

// Quiet waits for d. It fails the test if an event arrives meanwhile, or if one has not been
// returned yet. Heartbeats and positions are no events, and a stream that has ended is
// quiet.
func (s *Stream) Quiet(d time.Duration) {
	s.t.Helper()
	elapsed := time.After(d)
	if e, err := s.next(d); err == nil {
		s.t.Fatalf("ssetest: an event has arrived: %s\n%s", text(e), s.summary())
	}
	<-elapsed // next returns earlier if the stream has ended
}

// End waits for the end of the stream. It returns nil if the server ended the response
// properly, else the error of the connection. It fails the test if for a minute there is
// neither an event nor the end. The events that arrive are left for Next and All.
func (s *Stream) End() error {
	s.t.Helper()
	for ended := false; !ended; {
		before := s.countEvents()
		timer := time.NewTimer(timeout)
		select {
		case <-s.readerDone:
			ended = true
		case <-timer.C:
			if s.countEvents() == before {
				s.t.Fatalf("ssetest: the stream does not end\n%s", s.summary())
			}
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

func (s *Stream) countEvents() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// Heartbeats returns the number of comments so far: lines that begin with a colon, but for
// the one with which a Handler's stream says how often it sends heartbeats.
func (s *Stream) Heartbeats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heartbeats
}

// LastEventID returns the last event ID so far, after which the client would resume.
func (s *Stream) LastEventID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastEventID
}

// Reconnect closes the connection, if it is open, and sends the request again with the last
// event ID, as a browser does, but without its wait. It returns and fails as [Connect]
// does. Events of the former connection that have not been returned yet come first.
func (s *Stream) Reconnect() {
	s.t.Helper()
	s.Close()
	s.connect()
}

// Close closes the connection, as a client does that leaves. It may be called more than
// once. The events that have arrived are left for Next and All.
func (s *Stream) Close() {
	s.cancel()
	s.server.HangUp()
	if s.readerDone != nil {
		<-s.readerDone
	}
}

var errNothing = errors.New("nothing arrived")

// next waits for the next event, at most for d.
func (s *Stream) next(d time.Duration) (sse.Event, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		if e, ok, err := s.dequeue(); ok || err != nil {
			return e, err
		}
		select {
		case <-s.more:
		case <-timer.C:
			return sse.Event{}, fmt.Errorf("%w in %v", errNothing, d)
		}
	}
}

// dequeue returns the next event that has arrived, if there is one, or an error if none
// can arrive any more.
func (s *Stream) dequeue() (e sse.Event, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.returned < len(s.events) {
		e = s.events[s.returned]
		s.returned++
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

// summary describes what the client has received, for the report of a failure.
func (s *Stream) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "status %d, %d heartbeats, last event ID %q, %d events", s.response.StatusCode, s.heartbeats, s.lastEventID, len(s.events))
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
