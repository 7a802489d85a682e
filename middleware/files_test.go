package middleware_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
)

// Keep-alive, with pauses longer than any deadline of the stream, before and after.
func TestKeepAlive(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"writer": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if err != nil {
				return
			}
			defer s.Close()
			time.Sleep(50 * time.Second)
			s.Send(sse.Event{Data: []byte("x")})
		}),
		"handler": &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}, Options: sse.Options{MaxAge: time.Minute}, Logger: silent},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if name == "handler" {
					h = &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}, Options: sse.Options{MaxAge: time.Minute}, Logger: silent}
				}
				l := memnet.Listen()
				server := &http.Server{Handler: middleware.Bypass(http.TimeoutHandler(h, 30*time.Second, "late"))}
				go server.Serve(l)
				defer server.Close()
				conn, err := l.DialContext(t.Context(), "", "")
				require.NoError(t, err)
				defer conn.Close()
				r := bufio.NewReader(conn)
				for range 3 {
					_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
					if name == "handler" {
						_ = err
					}
					require.NoError(t, err)
					response, err := http.ReadResponse(r, nil)
					require.NoError(t, err)
					b, err := io.ReadAll(response.Body)
					require.NoError(t, err)
					require.NotContains(t, string(b), "late")
					time.Sleep(time.Minute)
				}
			})
		})
	}
}

// Files, ranges and HEAD through the gate.
func TestFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.txt")
	require.NoError(t, os.WriteFile(name, make([]byte, 100_000), 0o600))
	server := httptest.NewServer(middleware.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })))
	defer server.Close()
	response, err := http.Get(server.URL)
	require.NoError(t, err)
	b, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Len(t, b, 100_000)
	require.EqualValues(t, 100_000, response.ContentLength)
	r, _ := http.NewRequest("GET", server.URL, nil)
	r.Header.Set("Range", "bytes=10-19")
	response, err = http.DefaultClient.Do(r)
	require.NoError(t, err)
	b, _ = io.ReadAll(response.Body)
	require.Equal(t, 206, response.StatusCode)
	require.Len(t, b, 10)
	response, err = http.Head(server.URL)
	require.NoError(t, err)
	require.EqualValues(t, 100_000, response.ContentLength)
}
