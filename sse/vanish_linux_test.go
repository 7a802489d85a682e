package sse_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/deafpeer"
	"github.com/fanfare-go/fanfare/sse"
)

// With ConnContext the kernel ends a connection that acknowledges nothing. Without it,
// heartbeats fit in the buffer of its socket for a quarter of an hour.
func TestConnContextFindsAVanishedClient(t *testing.T) {
	const interval = 300 * time.Millisecond
	for _, test := range []struct {
		name   string
		with   bool // ConnContext
		found  bool // in time
		reason string
	}{
		{"with ConnContext", true, true, "the kernel gives up what waits for an acknowledgement"},
		{"without", false, false, "heartbeats fit in the socket's buffer for a quarter of an hour"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Logger: silent,
				Options: sse.Options{Heartbeat: interval, WriteTimeout: interval}}
			ended := make(chan struct{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				close(ended)
			}))
			if test.with {
				server.Config.ConnContext = sse.ConnContext
			}
			server.Start()
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
			require.NoError(t, err)
			_, err = conn.Read(make([]byte, 4096))
			require.NoError(t, err)

			deafpeer.Deafen(t, conn)
			began := time.Now()
			patience := 20 * time.Second
			if !test.found {
				patience = 10 * interval // several times what it takes with ConnContext
			}
			select {
			case <-ended:
				t.Logf("found out after %v", time.Since(began).Round(time.Millisecond))
				require.True(t, test.found, test.reason)
			case <-time.After(patience):
				require.False(t, test.found, test.reason)
			}
		})
	}
}
