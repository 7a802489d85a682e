package endtoend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// A client that reads slowly over TCP gets gaps and is not cut: a write hands the kernel no
// more than the client reads within WriteTimeout.
func TestASlowReaderGetsGapsAndIsNotCut(t *testing.T) {
	longtest.Only(t)
	const timeout = time.Second // a tenth of the default
	whileTheMachineRuns(t, timeout/2, func() error { return publishToSlowReaders(t, timeout) })
}

// whileTheMachineRuns calls try, which must return nil. A machine that stands still for as long as
// WriteTimeout cuts a client, too: an error of a run in which it has stood still for most or longer
// says nothing, and try is called again.
func whileTheMachineRuns(t *testing.T, most time.Duration, try func() error) {
	for runs := 1; ; runs++ {
		stops := longestStop(t)
		err := try()
		stop := stops()
		if err == nil || stop < most || runs == 5 {
			require.NoError(t, err, "run %d, in which the machine stood still for %v", runs, stop)
			return
		}
		t.Logf("the machine stood still for %v: %v", stop, err)
	}
}

// longestStop begins to measure for how long no goroutine runs, and returns a function that ends
// this and returns the longest.
func longestStop(t *testing.T) func() time.Duration {
	ctx, cancel := context.WithCancel(t.Context())
	longest := make(chan time.Duration)
	go func() {
		const every = 10 * time.Millisecond
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		var most time.Duration
		for last := time.Now(); ctx.Err() == nil; <-ticks.C {
			now := time.Now()
			most, last = max(most, now.Sub(last)-every), now
		}
		longest <- most
	}()
	return func() time.Duration {
		cancel()
		return <-longest
	}
}

// publishToSlowReaders publishes for some seconds to clients that read slowly, and returns what
// went wrong.
func publishToSlowReaders(t *testing.T, timeout time.Duration) error {
	const rate = 400 << 10 // bytes a second that a client reads, ten times what the default WriteTimeout needs; 40 times as much is published
	hub := &broadcast.Hub{Keep: 16}
	server := httptest.NewUnstartedServer(routes(hub, asked, sse.Options{WriteTimeout: timeout}, ws.Options{WriteTimeout: timeout}))
	server.Config.ConnContext = sse.ConnContext
	server.Start()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	paths := []string{"/sse?topic=a", "/sse/detached?topic=a", "/ws?topic=a", "/ws/detached?topic=a"}
	errs := make(chan error, len(paths))
	for _, path := range paths {
		go func() { errs <- readSlowly(ctx, server.Listener.Addr().String(), path, rate) }()
	}
	require.Eventually(t, func() bool { return hub.Stats().Subscriptions == len(paths) }, 5*time.Second, time.Millisecond)
	_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: bytes.Repeat([]byte("x"), 1<<20-1<<10)}) // takes longer than timeout
	require.NoError(t, err)
	data := bytes.Repeat([]byte("x"), 16<<10)
	publishing := time.NewTicker(time.Second * time.Duration(len(data)) / (40 * rate))
	defer publishing.Stop()
	for began := time.Now(); time.Since(began) < 5*time.Second; {
		<-publishing.C
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: data})
		require.NoError(t, err)
	}
	if open := hub.Stats().Subscriptions; open != len(paths) {
		err = fmt.Errorf("%d streams are open, not %d", open, len(paths))
	}
	cancel()
	for range paths {
		err = errors.Join(err, <-errs)
	}
	require.NoError(t, hub.Close())
	return err
}

// readSlowly opens a stream and reads rate bytes a second until ctx ends. The stream must
// not end before.
func readSlowly(ctx context.Context, address, path string, rate int) error {
	conn, err := (&net.Dialer{Control: likeEthernet}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, openRequest(path)); err != nil {
		return err
	}
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	var received bytes.Buffer
	for ctx.Err() == nil {
		<-ticks.C
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := io.CopyN(&received, conn, int64(rate/50)); err != nil {
			return fmt.Errorf("%s was cut: %w", path, err)
		}
	}
	if !bytes.Contains(received.Bytes(), []byte(`"gap":`)) {
		return fmt.Errorf("%s got %d bytes and no gap", path, received.Len())
	}
	return nil
}

// A client that was fast and then reads slowly is not cut. Its kernel has a large receive
// buffer by then, and accepts more only once a sixteenth of it is free, which is hundreds of
// KB: a write waits for that, for longer than WriteTimeout. If it stops reading, it is cut.
func TestAReaderThatWasFastIsNotCut(t *testing.T) {
	longtest.Only(t)
	const timeout = 2 * time.Second // a fifth of the default
	whileTheMachineRuns(t, timeout/2, func() error { return publishToFastReaders(t, timeout) })
}

// publishToFastReaders publishes to clients that read fast, then slowly, then not at all, and
// returns what went wrong.
func publishToFastReaders(t *testing.T, timeout time.Duration) error {
	hub := &broadcast.Hub{Keep: 64}
	server := httptest.NewUnstartedServer(routes(hub, asked, sse.Options{WriteTimeout: timeout}, ws.Options{WriteTimeout: timeout}))
	server.Config.ConnContext = sse.ConnContext
	server.Start()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	paths := []string{"/sse?topic=a", "/sse/detached?topic=a", "/ws?topic=a", "/ws/detached?topic=a"}
	began, stopped, errs := time.Now(), make(chan struct{}), make(chan error, len(paths))
	for _, path := range paths {
		go func() { errs <- readFast(server.Listener.Addr().String(), path, began, stopped) }()
	}
	go func() {
		data := bytes.Repeat([]byte("x"), 64<<10)
		for ctx.Err() == nil {
			_, _ = hub.Publish(ctx, broadcast.Message{Topic: "a", Data: data})
			<-time.After(time.Millisecond)
		}
	}()
	<-time.After(13 * time.Second)
	var err error
	if open := hub.Stats().Subscriptions; open != len(paths) {
		err = fmt.Errorf("%d streams are open, not %d", open, len(paths))
	}
	<-time.After(time.Second)
	silent := time.Now()
	for hub.Stats().Subscriptions > 0 && err == nil {
		if <-time.After(10 * time.Millisecond); time.Since(silent) > 5*timeout {
			err = fmt.Errorf("%d streams are open whose clients do not read", hub.Stats().Subscriptions)
		}
	}
	t.Logf("cut %v after they have stopped reading", time.Since(silent))
	close(stopped)
	cancel()
	for range paths {
		err = errors.Join(err, <-errs)
	}
	require.NoError(t, hub.Close())
	return err
}

// readFast opens a stream and reads what it can for two seconds, then slowly up to fourteen, and
// nothing more until stopped is closed. The stream must not end before.
func readFast(address, path string, began time.Time, stopped <-chan struct{}) error {
	const rate = 150 << 10 // bytes a second: a step of 600 KB takes 4 s, twice WriteTimeout
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, openRequest(path)); err != nil {
		return err
	}
	for buf := make([]byte, 256<<10); time.Since(began) < 2*time.Second; {
		if _, err := conn.Read(buf); err != nil {
			return fmt.Errorf("%s was cut: %w", path, err)
		}
	}
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for time.Since(began) < 14*time.Second {
		<-ticks.C
		if _, err := io.CopyN(io.Discard, conn, rate/50); err != nil {
			return fmt.Errorf("%s was cut after %v: %w", path, time.Since(began), err)
		}
	}
	<-stopped
	return nil
}

// likeEthernet gives a connection the segment size and the window of a network. Segments of
// loopback are so large that a few of them fill the window.
func likeEthernet(_, _ string, raw syscall.RawConn) (err error) {
	return errors.Join(raw.Control(func(fd uintptr) {
		err = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1460),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10),
		)
	}), err)
}

// openRequest returns the bytes of a request that opens a stream.
func openRequest(path string) string {
	upgrade := ""
	if path[:3] == "/ws" {
		upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + upgrade + "\r\n"
}
