package faults_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

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
	t.Run("a deadline ends a Read or Write that waits", func(t *testing.T) {
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
	t.Run("a write waits while the client does not read", func(t *testing.T) {
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
			require.NoError(t, err, "the client can still write")
			_, err = io.ReadFull(server, make([]byte, 1))
			require.NoError(t, err)
			link.Resume()
			require.NoError(t, <-written)
			server.Close()
			require.NoError(t, <-ended)
			require.Equal(t, 64<<10+4, got.Len())
		})
	})
	t.Run("nothing arrives from a peer that has vanished", func(t *testing.T) {
		var link faults.Link
		pipe(t, &link, func(t *testing.T, client, server net.Conn) {
			link.Vanish()
			_, err := server.Write([]byte("are you there?"))
			require.NoError(t, err)
			client.Close()
			server.SetReadDeadline(time.Now().Add(time.Hour))
			_, err = server.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the end does not arrive either")
			link.Resume()
			server.SetReadDeadline(time.Now().Add(time.Hour))
			_, err = server.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the connection does not recover")
			client, server = link.Pipe()
			defer client.Close()
			defer server.Close()
			_, err = client.Write([]byte("I am back"))
			require.NoError(t, err)
			_, err = server.Read(make([]byte, 1))
			require.NoError(t, err)
		})
	})
	t.Run("TCP_USER_TIMEOUT ends a connection whose peer has vanished", func(t *testing.T) {
		var link faults.Link
		pipe(t, &link, func(t *testing.T, client, server net.Conn) {
			require.NoError(t, server.(interface{ SetUserTimeout(time.Duration) error }).SetUserTimeout(25*time.Second))
			link.Vanish()
			time.Sleep(time.Hour) // the timeout does not run: nothing waits for an acknowledgement
			began := time.Now()
			_, err := server.Write([]byte("are you there?"))
			require.NoError(t, err)
			_, err = server.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ETIMEDOUT)
			require.Equal(t, 25*time.Second, time.Since(began))
		})
	})
	t.Run("both sides of a cut connection get an error", func(t *testing.T) {
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
	t.Run("CutAfter cuts in the middle of a message, once", func(t *testing.T) {
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
	t.Run("bytes arrive at BytesPerSecond", func(t *testing.T) {
		pipe(t, &faults.Link{BytesPerSecond: 1000}, func(t *testing.T, client, server net.Conn) {
			began := time.Now()
			_, err := server.Write(make([]byte, 10_000))
			require.NoError(t, err)
			require.Zero(t, time.Since(began), "a write does not wait for bytes to arrive")
			_, err = io.ReadFull(client, make([]byte, 1000))
			require.NoError(t, err)
			assert.InDelta(t, 1, time.Since(began).Seconds(), 0.15)
			_, err = io.ReadFull(client, make([]byte, 9000))
			require.NoError(t, err)
			assert.InDelta(t, 10, time.Since(began).Seconds(), 0.01)
			time.Sleep(time.Hour) // an idle link does not become faster
			began = time.Now()
			server.Write(make([]byte, 500))
			_, err = io.ReadFull(client, make([]byte, 500))
			require.NoError(t, err)
			assert.InDelta(t, 0.5, time.Since(began).Seconds(), 0.01)
		})
	})
}

// What was written before Close arrives, even if the other side writes after it.
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

// Concurrent Writes do not interleave.
func TestConcurrentWritesDoNotInterleave(t *testing.T) {
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

// A deadline that is moved, and Close, take effect while a Read waits.
func TestDeadlinesMoveWhileAReadWaits(t *testing.T) {
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

// Cut does not reset a connection whose peer has vanished.
func TestCutDoesNotReachAVanishedPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l faults.Link
		c, s := l.Pipe()
		l.Vanish()
		l.Cut()
		_, err := s.Write([]byte("x"))
		require.NotErrorIs(t, err, syscall.ECONNRESET, "a reset does not arrive either")
		_ = c
	})
}
