package sse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/sse"
)

// network is a server in memory and a client of it, in a synctest bubble.
type network struct {
	t         *testing.T
	listener  *memnet.Listener
	server    *http.Server
	transport *http.Transport
	dials     atomic.Int32
}

// serve runs test in a bubble of its own, with a server of h whose timeouts are
// far too short for a stream. configure may change the server before it serves.
func serve(t *testing.T, h http.Handler, test func(t *testing.T, n *network), configure ...func(n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &network{t: t, listener: memnet.Listen()}
		n.server = &http.Server{
			Handler:      h,
			WriteTimeout: time.Second,
			ReadTimeout:  time.Second,
			ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, 0),
		}
		n.transport = &http.Transport{ReadBufferSize: 64 << 10, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			n.dials.Add(1)
			return n.listener.DialContext(ctx, network, address)
		}}
		for _, f := range configure {
			f(n)
		}
		go n.server.Serve(n.listener)
		defer n.server.Close()
		defer n.transport.CloseIdleConnections()
		test(t, n)
	})
}

// overHTTP2 lets both sides of a network speak HTTP/2.
func overHTTP2(n *network) {
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	n.server.Protocols, n.transport.Protocols = &only, &only
}

// stream is an open response, which is read in the background.
type stream struct {
	t *testing.T
	*http.Response
	cancel context.CancelFunc

	mu     sync.Mutex
	more   sync.Cond
	unread []byte
	err    error // how the response ended
}

// get opens a stream; header are names and values.
func (n *network) get(target string, header ...string) *stream {
	n.t.Helper()
	return n.do("GET", target, nil, header...)
}

func (n *network) do(method, target string, body io.Reader, header ...string) *stream {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	n.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, "http://memory"+target, body)
	require.NoError(n.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	response, err := n.transport.RoundTrip(r)
	require.NoError(n.t, err)
	s := &stream{t: n.t, Response: response, cancel: cancel}
	s.more.L = &s.mu
	go s.read()
	return s
}

func (s *stream) read() {
	defer s.Body.Close()
	buf := make([]byte, 64<<10)
	for {
		k, err := s.Body.Read(buf)
		s.mu.Lock()
		s.unread, s.err = append(s.unread, buf[:k]...), err
		s.more.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// says wants exactly these bytes to come next.
func (s *stream) says(want string) {
	s.t.Helper()
	require.Equal(s.t, want, s.take(len(want)))
}

// take waits for so many bytes, fewer if the stream ends before.
func (s *stream) take(size int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.unread) < size && s.err == nil {
		s.more.Wait()
	}
	size = min(size, len(s.unread))
	taken := string(s.unread[:size])
	s.unread = s.unread[size:]
	return taken
}

// now returns what has come by now.
func (s *stream) now() string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := string(s.unread)
	s.unread = nil
	return taken
}

// open reports whether the stream has not ended.
func (s *stream) open() bool {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil
}

// rest waits for the end, and returns what came before it.
func (s *stream) rest() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil {
		s.more.Wait()
	}
	taken := string(s.unread)
	s.unread = nil
	if errors.Is(s.err, io.EOF) {
		return taken, nil
	}
	return taken, s.err
}

// ends wants the stream to end as a response does, without another byte.
func (s *stream) ends() {
	s.t.Helper()
	rest, err := s.rest()
	require.NoError(s.t, err)
	require.Empty(s.t, rest)
}

// begins wants a stream's first block, and returns the position in it.
func (s *stream) begins() string {
	s.t.Helper()
	s.says("retry: 3000\nid: ")
	return s.line()
}

// line returns what comes before the next two ends of line, at most so much as
// the longest ID has.
func (s *stream) line() string {
	s.t.Helper()
	var line string
	for !strings.HasSuffix(line, "\n\n") {
		next := s.take(1)
		require.NotEmpty(s.t, next, "the stream has ended after %q", line)
		line += next
	}
	return strings.TrimSuffix(line, "\n\n")
}

// stuck opens a stream that nobody reads.
func (n *network) stuck(target string) net.Conn {
	n.t.Helper()
	c, err := n.listener.DialContext(n.t.Context(), "", "")
	require.NoError(n.t, err)
	n.t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: memory\r\n\r\n")
	require.NoError(n.t, err)
	return c
}

// recorder is a ResponseWriter in memory, for streams without a network.
type recorder struct {
	header http.Header

	mu        sync.Mutex
	status    int
	body      []byte
	unflushed int
	writes    []int // their sizes
	deadline  time.Time
	hold      chan struct{} // while it is set, a Write waits for it to be closed
	over      bool          // the handler has returned: nothing may be written any more
	misuse    error         // something was
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

func (w *recorder) Write(b []byte) (int, error) {
	w.mu.Lock()
	hold := w.hold
	w.mu.Unlock()
	if hold != nil {
		<-hold
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		w.misuse = errors.New("written to after the handler has returned")
	}
	w.body = append(w.body, b...)
	w.unflushed += len(b)
	w.writes = append(w.writes, len(b))
	return len(b), nil
}

func (w *recorder) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unflushed = 0
	return nil
}

func (w *recorder) SetReadDeadline(time.Time) error { return nil }

func (w *recorder) SetWriteDeadline(at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = at
	return nil
}

// sent returns what has been written and flushed.
func (w *recorder) sent() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.body[:len(w.body)-w.unflushed])
}

// stuck lets all writes wait until the function that it returns is called.
func (w *recorder) stuck() (letGo func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hold := make(chan struct{})
	w.hold = hold
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		close(hold)
		w.hold = nil
	}
}

// record returns what a handler sends until it has nothing more to say, to a
// client with this last event ID. Meanwhile happens once the stream stands; it may
// be nil. The caller is in a bubble.
func record(t *testing.T, h http.Handler, target, lastEventID string, meanwhile func(w *recorder)) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", target, nil)
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	w := &recorder{header: http.Header{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(w, r)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.over = true
	}()
	synctest.Wait()
	if meanwhile != nil {
		meanwhile(w)
		synctest.Wait()
	}
	sent := w.sent()
	require.Equal(t, http.StatusOK, w.status)
	cancel()
	<-done
	synctest.Wait()
	require.NoError(t, w.misuse)
	require.Equal(t, sent, w.sent(), "nothing is said to a client that has left")
	return sent
}

// logbook keeps what is logged.
type logbook struct {
	mu    sync.Mutex
	lines []map[string]any
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logbook) Write(line []byte) (int, error) {
	var values map[string]any
	if err := json.Unmarshal(bytes.TrimSpace(line), &values); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, values)
	return len(line), nil
}

// with returns the lines whose message holds text.
func (l *logbook) with(text string) (found []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line["msg"].(string), text) {
			found = append(found, line)
		}
	}
	return found
}

var silent = slog.New(slog.DiscardHandler)

// publish publishes a message of type "tick", and returns the text of its ID.
func publish(t testing.TB, b broadcast.Broadcaster, topic, data string) string {
	t.Helper()
	id, err := b.Publish(context.Background(), broadcast.Message{Topic: topic, Type: "tick", Data: []byte(data)})
	require.NoError(t, err)
	return id.String()
}

// tick is the block of such a message.
func tick(id, data string) string { return "event: tick\nid: " + id + "\ndata: " + data + "\n\n" }

// before returns the ID before that of a message.
func before(t testing.TB, id string) string {
	t.Helper()
	parsed, err := broadcast.ParseID(id)
	require.NoError(t, err)
	return broadcast.MakeID(parsed.Epoch(), parsed.Seq()-1).String()
}

// position returns where the hub's log stands.
func position(t testing.TB, hub *broadcast.Hub) string {
	t.Helper()
	id, err := hub.Position(context.Background())
	require.NoError(t, err)
	return id.String()
}

// events reads what was sent as a browser would.
func events(t testing.TB, sent string) (all []sse.Event, lastEventID string) {
	t.Helper()
	r := sse.NewReader(strings.NewReader(sent))
	for e, err := range r.All() {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all, r.LastEventID()
}

// scripted is a Broadcaster that is no Hub. Its only subscription returns what it
// has been told to, one look for each Poll.
type scripted struct {
	begin broadcast.ID

	mu     sync.Mutex
	looks  []look
	at     broadcast.ID
	notify func()
	polls  int
	closed bool
}

// look is what one Poll returns.
type look struct {
	messages []broadcast.Message
	err      error
	position broadcast.ID // the subscription's from now on; zero: the last message's, if there is one
}

func (s *scripted) Publish(context.Context, broadcast.Message) (broadcast.ID, error) {
	return broadcast.ID{}, broadcast.ErrNotPublished
}

func (s *scripted) Subscribe(_ context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify, s.at = o.Notify, s.begin
	return s, nil
}

// says adds a look, and wakes the subscriber.
func (s *scripted) says(l look) {
	s.mu.Lock()
	s.looks = append(s.looks, l)
	notify := s.notify
	s.mu.Unlock()
	if notify != nil {
		notify()
	}
}

func (s *scripted) Poll(buf []*broadcast.Message) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	if s.closed {
		return 0, broadcast.ErrClosed
	}
	if len(s.looks) == 0 {
		return 0, nil
	}
	l := s.looks[0]
	s.looks = s.looks[1:]
	for i := range l.messages {
		buf[n] = &l.messages[i]
		s.at = buf[n].ID
		n++
	}
	if !l.position.IsZero() {
		s.at = l.position
	}
	return n, l.err
}

func (s *scripted) Position() broadcast.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *scripted) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
