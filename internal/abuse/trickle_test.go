package abuse_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/ws"
)

// watched is how long a connection is observed, in fake time.
const watched = 2 * time.Hour

// With the default of 30 s between pings, a client that answers none and never completes its
// message stays as long as it sends a byte before the second ping is due. MaxAge and
// Expires still end its stream.
func TestMaxAgeAndExpiresEndASlowMessage(t *testing.T) {
	message := frameHeader(final|binaryFrame, 30<<10)
	for _, test := range []struct {
		name     string
		begin    string
		every    time.Duration // that it sends a byte
		maxAge   time.Duration
		expires  time.Duration
		from, to time.Duration // when it is cut
		code     string        // in the close frame
	}{
		{name: "no byte", begin: message, from: time.Minute, to: time.Minute},
		{name: "a byte each second", begin: message, every: time.Second, from: watched, to: watched},
		{name: "a byte each 59 s", begin: message, every: 59 * time.Second, from: watched, to: watched},
		{name: "a byte each 61 s", begin: message, every: 61 * time.Second, from: time.Minute, to: time.Minute},
		{name: "in a ping", begin: frameHeader(pingFrame, 125), every: time.Second, from: 5 * time.Second, to: 6 * time.Second},
		{name: "MaxAge", begin: message, every: time.Second, maxAge: time.Hour, from: 48 * time.Minute, to: time.Hour + 10*time.Second, code: "\x03\xf4"},
		{name: "Expires", begin: message, every: time.Second, expires: time.Hour, from: time.Hour, to: time.Hour + 10*time.Second, code: "\x0b\xb8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				grant := &fanfare.Grant{Topics: []string{"a"}}
				if test.expires > 0 {
					grant.Expires = time.Now().Add(test.expires)
				}
				c := inMemory(t, &ws.Handler{
					Broadcaster: new(broadcast.Hub),
					Grant:       func(*http.Request) (*fanfare.Grant, error) { return grant, nil },
					Options:     ws.Options{MaxAge: test.maxAge},
					Logger:      slog.New(slog.DiscardHandler),
				})
				took, received := sendSlowly(c, test.begin, test.every)
				assert.GreaterOrEqual(t, took, test.from)
				assert.LessOrEqual(t, took, test.to)
				assert.Contains(t, received, test.code)
			})
		})
	}
}

// inMemory serves h in memory, and returns a WebSocket to it after the handshake.
func inMemory(t *testing.T, h http.Handler) net.Conn {
	listener := memnet.Listen()
	server := &http.Server{Handler: h}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	c, err := listener.DialContext(t.Context(), "", "")
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, request("/ws"))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	return c
}

// sendSlowly sends the beginning of a frame, then a byte at each interval (none if every is
// 0), until the connection is cut. It returns how long that took, and what was received.
func sendSlowly(c net.Conn, begin string, every time.Duration) (took time.Duration, received string) {
	began := time.Now()
	cut := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(c)
		cut <- string(b)
	}()
	_, _ = io.WriteString(c, begin)
	tick, enough := time.Tick(every), time.After(watched)
	for {
		select {
		case <-tick:
			_, _ = io.WriteString(c, "x") // it may have been cut
		case <-enough:
			c.Close()
			return watched, <-cut
		case received := <-cut:
			return time.Since(began), received
		}
	}
}
