package watch_test

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/watch"
)

// calls counts the calls of Ready.
type calls struct {
	n     atomic.Int64
	ready chan struct{}
}

func newCalls() *calls { return &calls{ready: make(chan struct{}, 1)} }

func (c *calls) Ready() {
	c.n.Add(1)
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// pair returns the two ends of a connection over TCP.
func pair(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close(); c.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

func raw(t *testing.T, c syscall.Conn) syscall.RawConn {
	t.Helper()
	r, err := c.SyscallConn()
	require.NoError(t, err)
	return r
}

// A peer that leaves is noticed: by a FIN, by a reset, by the end of its half, and also if
// that was before the watch began, or if bytes that nobody reads came before.
func TestHangUpIsNoticed(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"close":      func(c *net.TCPConn) { c.Close() },
		"reset":      func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
		"half":       func(c *net.TCPConn) { c.CloseWrite() },
		"after data": func(c *net.TCPConn) { io.WriteString(c, "unread"); c.Close() },
	} {
		for _, before := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				var w watch.Watch
				server, client := pair(t)
				if before {
					leave(client)
				}
				called := newCalls()
				token, ok := w.Add(raw(t, server), watch.HangUp, called)
				require.True(t, ok)
				if !before {
					leave(client)
				}
				<-called.ready
				w.Remove(raw(t, server), token)
				require.Zero(t, w.Watched())
			})
		}
	}
}

// What a client sends is no hang-up, however much that is, and costs no calls.
func TestDataIsNoHangUp(t *testing.T) {
	var w watch.Watch
	server, client := pair(t)
	called := newCalls()
	token, ok := w.Add(raw(t, server), watch.HangUp, called)
	require.True(t, ok)
	for range 100 {
		_, err := client.Write(make([]byte, 100))
		require.NoError(t, err)
	}
	client.CloseWrite()
	<-called.ready
	require.EqualValues(t, 1, called.n.Load())
	w.Remove(raw(t, server), token)
}

// Each arrival is reported, and what is not read is not reported again.
func TestReadableIsReportedOnce(t *testing.T) {
	var w watch.Watch
	server, client := pair(t)
	called := newCalls()
	token, ok := w.Add(raw(t, server), watch.Readable, called)
	require.True(t, ok)
	for i := range 20 {
		_, err := client.Write([]byte{'x'})
		require.NoError(t, err)
		<-called.ready
		require.EqualValues(t, i+1, called.n.Load())
		if i < 10 {
			_, err = server.Read(make([]byte, 1))
			require.NoError(t, err)
		}
	}
	w.Remove(raw(t, server), token)
}

// A socket that was removed is reported to nobody, also if its descriptor, or its place in
// the Watch, has become another's, and if a duplicate of it is still open.
func TestRemovedSocketIsReportedToNobody(t *testing.T) {
	for _, closes := range []string{"removed first", "closed first", "closed first, with a duplicate"} {
		t.Run(closes, func(t *testing.T) {
			var w watch.Watch
			other, _ := pair(t)
			kept, ok := w.Add(raw(t, other), watch.HangUp, newCalls()) // so that the poller stays
			require.True(t, ok)
			old, oldClient := pair(t)
			stale := newCalls()
			rawOld := raw(t, old)
			token, ok := w.Add(rawOld, watch.Readable, stale)
			require.True(t, ok)
			var duplicate *os.File
			if closes == "closed first, with a duplicate" {
				var err error
				duplicate, err = old.File()
				require.NoError(t, err)
			}
			if closes == "removed first" {
				w.Remove(rawOld, token)
			}
			require.NoError(t, old.Close())
			w.Remove(rawOld, token)
			w.Remove(rawOld, token)
			require.Equal(t, 1, w.Watched())

			fresh, client := pair(t)
			called := newCalls()
			next, ok := w.Add(raw(t, fresh), watch.Readable, called)
			require.True(t, ok)
			require.NotEqual(t, token, next)
			_, _ = io.WriteString(oldClient, "x")
			_, err := io.WriteString(client, "x")
			require.NoError(t, err)
			<-called.ready
			require.EqualValues(t, 1, called.n.Load())
			require.Zero(t, stale.n.Load())
			if duplicate != nil {
				duplicate.Close()
			}
			w.Remove(raw(t, fresh), next)
			w.Remove(raw(t, other), kept)
			require.Zero(t, w.Watched())
		})
	}
}

// The token of one life of a Watch means nothing in the next one.
func TestTokenIsNeverUsedAgain(t *testing.T) {
	var w watch.Watch
	server, _ := pair(t)
	first, ok := w.Add(raw(t, server), watch.HangUp, newCalls())
	require.True(t, ok)
	w.Remove(raw(t, server), first)
	second, ok := w.Add(raw(t, server), watch.HangUp, newCalls())
	require.True(t, ok)
	w.Remove(raw(t, server), first)
	require.Equal(t, 1, w.Watched())
	w.Remove(raw(t, server), second)
	require.Zero(t, w.Watched())
}

// What cannot be watched is refused and leaves nothing: no socket, a closed one, and one
// that is watched already.
func TestWhatCannotBeWatchedIsRefused(t *testing.T) {
	var w watch.Watch
	_, ok := w.Add(nil, watch.HangUp, newCalls())
	require.False(t, ok)
	server, _ := pair(t)
	token, ok := w.Add(raw(t, server), watch.HangUp, newCalls())
	require.True(t, ok)
	_, ok = w.Add(raw(t, server), watch.HangUp, newCalls())
	require.False(t, ok)
	require.Equal(t, 1, w.Watched())
	w.Remove(raw(t, server), token)
	closed, _ := pair(t)
	socket := raw(t, closed)
	closed.Close()
	_, ok = w.Add(socket, watch.HangUp, newCalls())
	require.False(t, ok)
	require.Zero(t, w.Watched())
}

// remover removes its socket in the Watch's own goroutine.
type remover struct {
	w      *watch.Watch
	socket syscall.RawConn
	token  atomic.Uint64
	done   chan struct{}
	once   sync.Once
}

func (r *remover) Ready() {
	r.w.Remove(r.socket, watch.Token(r.token.Load()))
	r.once.Do(func() { close(r.done) })
}

// Streams come and go while the Watch begins and ends: every end is noticed, and in the end
// it has neither sockets nor a
// descriptor. TestMain looks for its goroutine.
func TestComingAndGoing(t *testing.T) {
	var w watch.Watch
	before := descriptors(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 50 {
				server, client := pair(t)
				r := &remover{w: &w, socket: raw(t, server), done: make(chan struct{})}
				token, ok := w.Add(r.socket, watch.HangUp, r)
				if !ok {
					t.Error("not watched")
					return
				}
				r.token.Store(uint64(token))
				client.Close()
				if i%2 == 0 {
					<-r.done
				}
				w.Remove(r.socket, token)
				server.Close()
			}
		})
	}
	group.Wait()
	require.Zero(t, w.Watched())
	require.Eventually(t, func() bool { return descriptors(t) <= before }, 10*time.Second, time.Millisecond)
}

func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(open)
}
