package ssetest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

type key struct{}

// The handler sees the method, the URL, the headers, the RemoteAddr and the context values of
// the request.
func TestHandlerSeesTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "data: %s %s%s from %s, %v, %s, %s\n\n", r.Method, r.Host, r.URL, r.RemoteAddr, r.Context().Value(key{}),
				r.Header.Get("Last-Event-ID"), r.Header.Get("Authorization"))
		})
		r := httptest.NewRequest("GET", "https://example.org/a?b=c", nil)
		r.RemoteAddr = "198.51.100.7:5555"
		r.Header.Set("Last-Event-ID", "1f-2a")
		r.Header.Set("Authorization", "Bearer x")
		r = r.WithContext(context.WithValue(r.Context(), key{}, "a value"))
		r.URL.Scheme = "http"
		s := ssetest.Connect(t, h, r)
		require.Equal(t, "GET example.org/a?b=c from 198.51.100.7:5555, a value, 1f-2a, Bearer x", string(s.Next().Data))

		plain, err := http.NewRequest("GET", "/x", nil)
		require.NoError(t, err)
		s = ssetest.Connect(t, h, plain)
		require.Equal(t, "GET example.com/x from 192.0.2.1:1234, <nil>, , ", string(s.Next().Data))
		require.NoError(t, s.End())
	})
}

// The handler sees the TLS of an https request, although in memory there is none.
func TestHandlerSeesTheTLSOfTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := failing.Said(t, func(t testing.TB) {
			s := ssetest.Connect(t, &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, httptest.NewRequest("GET", "https://example.com/", nil))
			s.Close()
		})
		require.Empty(t, report)
		require.NoError(t, ssetest.Diagnose(&sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, httptest.NewRequest("GET", "https://example.com/", nil)))
	})
}

// Reconnect sends the body of the request again.
func TestReconnectSendsTheBodyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			prompt, _ := io.ReadAll(r.Body)
			s, err := sse.NewWriter(w, r, nil)
			if err != nil {
				return
			}
			defer s.Close()
			s.Send(sse.Event{Data: prompt})
			<-s.Context().Done()
		})
		report := failing.Said(t, func(t testing.TB) {
			s := ssetest.Connect(t, h, httptest.NewRequest("POST", "/", strings.NewReader("hello")))
			require.Equal(t, "hello", string(s.Next().Data))
			s.Reconnect()
			require.Equal(t, "hello", string(s.Next().Data))
		})
		require.Empty(t, report)
	})
}

// Reconnect uses a new connection, also over HTTP/2.
func TestReconnectUsesANewConnection(t *testing.T) {
	for _, v := range []int{1, 2} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := new(broadcast.Hub)
				report := failing.Said(t, func(t testing.TB) {
					var link faults.Link
					r := httptest.NewRequest("GET", "/", nil)
					r.ProtoMajor = v
					s := ssetest.Connect(t, &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: quietLog}, faults.Via(r, &link))
					hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: []byte("x")})
					s.Next()
					link.Vanish()
					time.Sleep(time.Minute)
					link.Resume()
					s.Reconnect()
				})
				require.Empty(t, report)
			})
		})
	}
}
