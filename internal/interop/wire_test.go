package interop_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 10 * time.Second

// wire is a TCP relay in front of a server. Both ends have real sockets. It records what
// passes between them, since a library's own account is no proof, and can cut them.
type wire struct {
	url    string // of the relay, http
	target string
	done   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	conns    map[*net.TCPConn]struct{}
	requests []string         // the Last-Event-ID of each
	frames   map[bool][]frame // by whether the client sent them; recorded a moment after the other end has them
	text     bytes.Buffer     // what the server sent, except frames
}

// frame is a frame of RFC 6455 section 5.2.
type frame struct {
	opcode          byte
	fin, rsv1, mask bool
	payload         []byte // unmasked
}

const (
	continuation = 0x0
	closing      = 0x8
	ping         = 0x9
	pong         = 0xA
)

// through serves a handler, and returns the relay in front of it. Both end with the test.
func through(t *testing.T, h http.Handler) *wire {
	w := &wire{conns: map[*net.TCPConn]struct{}{}, frames: map[bool][]frame{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.Header.Get("Last-Event-ID"))
		w.mu.Unlock()
		h.ServeHTTP(rw, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // other servers log, too
	server.Start()
	t.Cleanup(server.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.url, w.target = "http://"+listener.Addr().String(), server.Listener.Addr().String()
	w.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			w.relay(client.(*net.TCPConn))
		}
	})
	t.Cleanup(func() {
		listener.Close()
		w.cut()
		w.done.Wait()
	})
	return w
}

func (w *wire) relay(client *net.TCPConn) {
	conn, err := net.Dial("tcp", w.target)
	if err != nil {
		client.Close()
		return
	}
	server := conn.(*net.TCPConn)
	w.mu.Lock()
	w.conns[client], w.conns[server] = struct{}{}, struct{}{}
	w.mu.Unlock()
	upgraded := make(chan bool, 1)
	var both sync.WaitGroup
	pass := func(from, to *net.TCPConn, record func(*bufio.Reader)) {
		both.Go(func() {
			// What is read here has been passed on already, so that recording delays nothing.
			seen := bufio.NewReader(io.TeeReader(from, to))
			record(seen)
			_, _ = io.Copy(io.Discard, seen)
			_ = to.CloseWrite()
		})
	}
	pass(client, server, func(seen *bufio.Reader) {
		if _, err := http.ReadRequest(seen); err == nil && <-upgraded {
			w.record(seen, true)
		}
	})
	pass(server, client, func(seen *bufio.Reader) {
		head, _ := seen.Peek(len("HTTP/1.1 101"))
		upgraded <- string(head) == "HTTP/1.1 101"
		if string(head) == "HTTP/1.1 101" {
			if _, err := http.ReadResponse(seen, nil); err == nil {
				w.record(seen, false)
			}
			return
		}
		_, _ = io.Copy(text{w}, seen)
	})
	w.done.Go(func() {
		both.Wait()
		client.Close()
		server.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.conns, client)
		delete(w.conns, server)
	})
}

type text struct{ *wire }

func (t text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// record parses and records frames.
func (w *wire) record(r io.Reader, fromClient bool) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		f := frame{opcode: head[0] & 0xF, fin: head[0]&0x80 != 0, rsv1: head[0]&0x40 != 0, mask: head[1]&0x80 != 0}
		length := uint64(head[1] & 0x7F)
		if n := map[uint64]int{126: 2, 127: 8}[length]; n > 0 {
			var extended [8]byte
			if _, err := io.ReadFull(r, extended[8-n:]); err != nil {
				return
			}
			length = binary.BigEndian.Uint64(extended[:])
		}
		var mask [4]byte
		if f.mask {
			if _, err := io.ReadFull(r, mask[:]); err != nil {
				return
			}
		}
		f.payload = make([]byte, length)
		if _, err := io.ReadFull(r, f.payload); err != nil {
			return
		}
		for i := range f.payload {
			f.payload[i] ^= mask[i%4]
		}
		w.mu.Lock()
		w.frames[fromClient] = append(w.frames[fromClient], f)
		w.mu.Unlock()
	}
}

// cut closes all connections at once.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.conns {
		conn.Close()
	}
}

// count counts the frames of one side for which the function reports true.
func (w *wire) count(fromClient bool, such func(frame) bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, f := range w.frames[fromClient] {
		if such(f) {
			n++
		}
	}
	return n
}

func opcode(code byte) func(frame) bool { return func(f frame) bool { return f.opcode == code } }
func deflated(f frame) bool             { return f.rsv1 }

// closes returns the status codes of the close frames of one side; 1005 for a frame without.
func (w *wire) closes(fromClient bool) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	codes := []int{}
	for _, f := range w.frames[fromClient] {
		switch {
		case f.opcode == closing && len(f.payload) >= 2:
			codes = append(codes, int(binary.BigEndian.Uint16(f.payload)))
		case f.opcode == closing:
			codes = append(codes, 1005)
		}
	}
	return codes
}

// closed waits until one side has sent a close frame, and returns what closes returns.
func (w *wire) closed(t *testing.T, fromClient bool) []int {
	t.Helper()
	eventually(t, func() bool { return len(w.closes(fromClient)) > 0 }, "no close frame, by the client: %v", fromClient)
	return w.closes(fromClient)
}

// resumed returns the Last-Event-ID of each request so far.
func (w *wire) resumed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.requests)
}

// sent counts how often the server has sent a text, except in frames.
func (w *wire) sent(s string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), s)
}

func eventually(t *testing.T, that func() bool, why string, args ...any) {
	t.Helper()
	require.Eventually(t, that, patience, time.Millisecond, append([]any{why}, args...)...)
}

// next receives from a channel.
func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-from:
		require.True(t, ok, "the channel is closed")
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing was sent")
	}
	panic("unreachable")
}
