package sse_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/memnet"
)

// network is a server in memory and a client of it, in a synctest bubble.
type network struct {
	t         *testing.T
	listener  *memnet.Listener
	server    *http.Server
	transport *http.Transport
	dials     atomic.Int32
}

// get opens a stream and reads it. The header is names and values in turn.
func (n *network) get(target string, header ...string) *stream {
	n.t.Helper()
	return n.do("GET", target, nil, header...)
}

// do sends a request and reads the answer.
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

// getUnread opens a stream, of which it reads nothing.
func (n *network) getUnread(target string) net.Conn {
	n.t.Helper()
	c, err := n.listener.DialContext(n.t.Context(), "", "")
	require.NoError(n.t, err)
	n.t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: memory\r\n\r\n")
	require.NoError(n.t, err)
	return c
}

// serve runs test in a bubble of its own, with a server of h whose timeouts are far too
// short for a stream. configure may change the server before it starts.
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

// overHTTP2 configures both sides of a network for HTTP/2.
func overHTTP2(n *network) {
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	n.server.Protocols, n.transport.Protocols = &only, &only
}

// stream is an open response. It is read in the background.
type stream struct {
	t *testing.T
	*http.Response
	cancel context.CancelFunc

	mu     sync.Mutex
	more   sync.Cond
	unread []byte
	err    error // how the response ended
}

func (s *stream) read() {
	defer s.Body.Close()
	buf := make([]byte, 64<<10)
	for {
		k, err := s.Body.Read(buf)
		s.mu.Lock()
		s.unread, s.err = append(s.unread, nominal(string(buf[:k]))...), err
		s.more.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// expect waits for exactly these bytes to arrive next.
func (s *stream) expect(want string) {
	s.t.Helper()
	require.Equal(s.t, want, s.take(len(want)))
}

// take waits for a number of bytes, and returns fewer if the stream ends before.
func (s *stream) take(size int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.unread) < size && s.err == nil {
		s.more.Wait()
	}
	size = min(size, len(s.unread))
	unread := string(s.unread[:size])
	s.unread = s.unread[size:]
	return unread
}

// received returns what has arrived and was not returned yet.
func (s *stream) received() string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	unread := string(s.unread)
	s.unread = nil
	return unread
}

// open reports whether the stream has not ended.
func (s *stream) open() bool {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil
}

// rest waits for the end, and returns what was not returned yet. The error is nil if the
// response has a proper end.
func (s *stream) rest() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil {
		s.more.Wait()
	}
	unread := string(s.unread)
	s.unread = nil
	if errors.Is(s.err, io.EOF) {
		return unread, nil
	}
	return unread, s.err
}

// expectEnd waits for a proper end, without another byte.
func (s *stream) expectEnd() {
	s.t.Helper()
	rest, err := s.rest()
	require.NoError(s.t, err)
	require.Empty(s.t, rest)
}

// expectBegin waits for the first block of a stream, and returns its position.
func (s *stream) expectBegin() string {
	s.t.Helper()
	s.expect("retry: 3000\nid: ")
	return s.line()
}

// line returns what arrives before the next blank line.
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

// expectAll waits for a proper end, and for exactly these bytes before it.
func (s *stream) expectAll(want string) {
	s.t.Helper()
	rest, err := s.rest()
	require.NoError(s.t, err)
	require.Equal(s.t, want, rest)
}
