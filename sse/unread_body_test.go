package sse_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A client that leaves is noticed by the heartbeats if much of its request's body was not
// read. A body that does not come to its end is waited for at most for WriteTimeout.
func TestAnUnreadBodyKeepsNoStream(t *testing.T) {
	const interval = 200 * time.Millisecond
	for name, request := range map[string]string{
		"a GET with unfinished chunks": "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"a large POST":                 fmt.Sprintf("POST /writer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			options := sse.Options{Heartbeat: interval, WriteTimeout: interval}
			h := &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Logger: silent, Options: options}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				if r.Method == http.MethodGet {
					h.ServeHTTP(w, r)
					return
				}
				s, err := sse.NewWriter(w, r, &options)
				if err != nil {
					return
				}
				defer s.Close()
				<-s.Context().Done()
			}))
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, request)
			require.NoError(t, err)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = conn.Read(make([]byte, 4096))
			if strings.HasPrefix(request, "GET") {
				require.Equal(t, io.EOF, err, "it is cut")
			} else {
				require.NoError(t, err)
			}
			require.NoError(t, conn.Close())
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				require.Fail(t, "the client is not noticed")
			}
		})
	}
}
