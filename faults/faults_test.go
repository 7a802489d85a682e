package faults_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/faults"
)

// pipe runs test with the two ends of a connection over l, in a bubble.
func pipe(t *testing.T, l *faults.Link, test func(t *testing.T, client, server net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server := l.Pipe()
		defer client.Close()
		defer server.Close()
		test(t, client, server)
	})
}

// drain reads a connection to its end, in the background.
func drain(c net.Conn) (read *bytes.Buffer, ended <-chan error) {
	var b bytes.Buffer
	end := make(chan error, 1)
	go func() {
		_, err := io.Copy(&b, c)
		end <- err
	}()
	return &b, end
}

func TestLink(t *testing.T) {
	t.Run("what was written before the end arrives", func(t *testing.T) {
		pipe(t, new(faults.Link), func(t *testing.T, client, server net.Conn) {
			got, ended := drain(client)
			_, err := server.Write([]byte("hello"))
			require.NoError(t, err)
			require.NoError(t, server.Close())
			require.NoError(t, <-ended)
			require.Equal(t, "hello", got.String())
			_, err = client.Write([]byte("x"))
			require.ErrorIs(t, err, syscall.EPIPE)
			_, err = server.Read(make([]byte, 1))
			require.ErrorIs(t, err, net.ErrClosed)
		})
	})
	t.Run("deadlines, also those that pass while somebody waits", func(t *testing.T) {
		pipe(t, &faults.Link{Buffer: 4}, func(t *testing.T, client, server net.Conn) {
			began := time.Now()
			client.SetReadDeadline(began.Add(time.Second))
			_, err := client.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			server.SetWriteDeadline(began.Add(3 * time.Second))
			n, err := server.Write([]byte("123456"))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Equal(t, 4, n)
			require.Equal(t, 3*time.Second, time.Since(began))
			client.SetReadDeadline(time.Time{})
			_, err = client.Read(make([]byte, 1))
			require.NoError(t, err)
		})
	})
	t.Run("a client that stops reading", func(t *testing.T) {
		var link faults.Link
		pipe(t, &link, func(t *testing.T, client, server net.Conn) {
			got, ended := drain(client)
			link.Stall()
			_, err := server.Write(make([]byte, 64<<10))
			require.NoError(t, err, "it fits in the buffer")
			written := make(chan error)
			go func() {
				_, err := server.Write([]byte("more"))
				written <- err
			}()
			time.Sleep(time.Hour)
			require.Empty(t, written)
			_, err = client.Write([]byte("x"))
			require.NoError(t, err, "it goes on to write")
			_, err = io.ReadFull(server, make([]byte, 1))
			require.NoError(t, err)
			link.Resume()
			require.NoError(t, <-written)
			server.Close()
			require.NoError(t, <-ended)
			require.Equal(t, 64<<10+4, got.Len())
		})
	})
	t.Run("a peer that vanishes", func(t *testing.T) {
		var link faults.Link
		pipe(t, &link, func(t *testing.T, client, server net.Conn) {
			link.Vanish()
			_, err := server.Write([]byte("are you there?"))
			require.NoError(t, err)
			client.Close()
			server.SetReadDeadline(time.Now().Add(time.Hour))
			_, err = server.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the end is not heard of either")
			link.Resume()
			server.SetReadDeadline(time.Now().Add(time.Hour))
			_, err = server.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "what is gone stays gone")
			client, server = link.Pipe()
			defer client.Close()
			defer server.Close()
			_, err = client.Write([]byte("I am back"))
			require.NoError(t, err)
			_, err = server.Read(make([]byte, 1))
			require.NoError(t, err)
		})
	})
	t.Run("a peer that vanishes, with TCP_USER_TIMEOUT", func(t *testing.T) {
		var link faults.Link
		pipe(t, &link, func(t *testing.T, client, server net.Conn) {
			require.NoError(t, server.(interface{ SetUserTimeout(time.Duration) error }).SetUserTimeout(25*time.Second))
			link.Vanish()
			time.Sleep(time.Hour) // nothing waits for an acknowledgement
			began := time.Now()
			_, err := server.Write([]byte("are you there?"))
			require.NoError(t, err)
			_, err = server.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ETIMEDOUT)
			require.Equal(t, 25*time.Second, time.Since(began))
		})
	})
	t.Run("a cut", func(t *testing.T) {
		var link faults.Link
		pipe(t, &link, func(t *testing.T, client, server net.Conn) {
			_, err := server.Write([]byte("lost"))
			require.NoError(t, err)
			link.Cut()
			for _, c := range []net.Conn{client, server} {
				_, err = c.Read(make([]byte, 9))
				require.ErrorIs(t, err, syscall.ECONNRESET)
				_, err = c.Write([]byte("x"))
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
		})
	})
	t.Run("a cut in the middle", func(t *testing.T) {
		var link faults.Link
		pipe(t, &link, func(t *testing.T, client, server net.Conn) {
			link.CutAfter(7)
			got, ended := drain(client)
			for range 3 {
				server.Write([]byte("hello"))
				synctest.Wait()
			}
			require.ErrorIs(t, <-ended, syscall.ECONNRESET)
			require.Equal(t, "hellohe", got.String())
			client, server = link.Pipe()
			defer client.Close()
			got, ended = drain(client)
			server.Write([]byte("the next one is whole"))
			server.Close()
			require.NoError(t, <-ended)
			require.Equal(t, "the next one is whole", got.String())
		})
	})
	t.Run("a slow link", func(t *testing.T) {
		pipe(t, &faults.Link{BytesPerSecond: 1000}, func(t *testing.T, client, server net.Conn) {
			began := time.Now()
			_, err := server.Write(make([]byte, 10_000))
			require.NoError(t, err)
			require.Zero(t, time.Since(began), "it is on the way")
			_, err = io.ReadFull(client, make([]byte, 1000))
			require.NoError(t, err)
			assert.InDelta(t, 1, time.Since(began).Seconds(), 0.15)
			_, err = io.ReadFull(client, make([]byte, 9000))
			require.NoError(t, err)
			assert.InDelta(t, 10, time.Since(began).Seconds(), 0.01)
			time.Sleep(time.Hour) // an idle link saves nothing up
			began = time.Now()
			server.Write(make([]byte, 500))
			_, err = io.ReadFull(client, make([]byte, 500))
			require.NoError(t, err)
			assert.InDelta(t, 0.5, time.Since(began).Seconds(), 0.01)
		})
	})
}

// Also after a Write that came too late.
func TestWrittenBeforeCloseArrives(t *testing.T) {
	var l faults.Link
	c, s := l.Pipe()
	c.Write([]byte("bye"))
	c.Close()
	s.Write([]byte("x"))
	b, err := io.ReadAll(s)
	require.NoError(t, err)
	require.Equal(t, "bye", string(b))
}

// One goes out after the other.
func TestConcurrentWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l faults.Link
		c, s := l.Pipe()
		var wg sync.WaitGroup
		for _, ch := range "abcd" {
			wg.Go(func() { s.Write(bytes.Repeat([]byte(string(ch)), 200<<10)) })
		}
		go func() { wg.Wait(); s.Close() }()
		synctest.Wait()
		b, _ := io.ReadAll(c)
		require.Len(t, b, 4*200<<10)
		changes := 0
		for i := 1; i < len(b); i++ {
			if b[i] != b[i-1] {
				changes++
			}
		}
		require.Equal(t, 3, changes)
	})
}

// While a Read waits for them.
func TestMovedDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l faults.Link
		c, s := l.Pipe()
		began := time.Now()
		c.SetReadDeadline(began.Add(time.Hour))
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(began.Add(3 * time.Second)) })
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))
		c.SetDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { c.SetDeadline(time.Unix(1, 0)) })
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var ne net.Error
		require.True(t, errors.As(err, &ne) && ne.Timeout())
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		c.SetDeadline(time.Time{})
		n, err := c.Read(nil)
		require.Zero(t, n)
		require.NoError(t, err)
		n, err = c.Write(nil)
		require.Zero(t, n)
		require.NoError(t, err)
		time.AfterFunc(time.Second, func() { c.Close() })
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, c.SetDeadline(time.Now()), net.ErrClosed)
		require.Error(t, c.Close())
		s.Close()
	})
}

// No reset gets there either.
func TestCutOfWhatHasVanished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l faults.Link
		c, s := l.Pipe()
		l.Vanish()
		l.Cut()
		_, err := s.Write([]byte("x"))
		require.NotErrorIs(t, err, syscall.ECONNRESET, "what vanished hears nothing any more")
		_ = c
	})
}

// It passes as it is.
func TestCompressedAlready(t *testing.T) {
	h := middleware.Compress(5, "text/plain")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello")
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	faults.Compress(h).ServeHTTP(w, r)
	require.Equal(t, []string{"gzip"}, w.Header().Values("Content-Encoding"))
	z, err := gzip.NewReader(w.Body)
	require.NoError(t, err)
	b, _ := io.ReadAll(z)
	require.Equal(t, "hello", string(b))
}
