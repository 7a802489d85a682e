package sse_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/sse"
)

// stream is an open response of a server in memory.
type stream struct {
	t      *testing.T
	body   io.Reader
	cancel func()
	*http.Response
}

// serve runs test in a bubble with a server of h; get opens a stream.
func serve(t *testing.T, h func() http.Handler, test func(t *testing.T, server *http.Server, get func(target string, header ...string) *stream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := memnet.Listen()
		server := &http.Server{Handler: h(), WriteTimeout: time.Second, ReadTimeout: time.Second}
		transport := &http.Transport{DialContext: listener.DialContext}
		go server.Serve(listener)
		defer server.Close()
		defer transport.CloseIdleConnections()
		test(t, server, func(target string, header ...string) *stream {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			r, err := http.NewRequestWithContext(ctx, "GET", "http://memory"+target, nil)
			require.NoError(t, err)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			response, err := transport.RoundTrip(r)
			require.NoError(t, err)
			return &stream{t, response.Body, cancel, response}
		})
	})
}

// says wants exactly these bytes to come next.
func (s *stream) says(want string) {
	s.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(s.body, got)
	require.NoError(s.t, err, "after %q", got[:n])
	require.Equal(s.t, want, string(got))
}

func (s *stream) ends() {
	s.t.Helper()
	rest, err := io.ReadAll(s.body)
	require.NoError(s.t, err)
	require.Empty(s.t, string(rest))
}

func publish(t *testing.T, hub *broadcast.Hub, topic, data string) string {
	t.Helper()
	id, err := hub.Publish(context.Background(), broadcast.Message{Topic: topic, Type: "tick", Data: []byte(data)})
	require.NoError(t, err)
	return id.String()
}

func TestWire(t *testing.T) {
	hub := &broadcast.Hub{Keep: 2}
	h := func() http.Handler { return &sse.Handler{Broadcaster: hub, Topics: []string{"a", "b"}} }
	serve(t, h, func(t *testing.T, server *http.Server, get func(string, ...string) *stream) {
		begin, err := hub.Position(t.Context())
		require.NoError(t, err)
		s := get("/")
		require.Equal(t, "text/event-stream", s.Header.Get("Content-Type"))
		require.Equal(t, "no-store, no-transform", s.Header.Get("Cache-Control"))
		require.Equal(t, "no", s.Header.Get("X-Accel-Buffering"))
		s.says("retry: 3000\nid: " + begin.String() + "\n\n")
		one := publish(t, hub, "a", "x\ny")
		s.says("event: tick\nid: " + one + "\ndata: x\ndata: y\n\n")
		// Beyond both timeouts of the server; only the first interval had a word.
		s.says(":\n:\n:\n")
		elsewhere := publish(t, hub, "c", "not for this client")
		s.says("id: " + elsewhere + "\n\n:\n")
		s.cancel()

		two := publish(t, hub, "a", "2")
		resumed := get("/?lastEventId=nonsense", "Last-Event-ID", one) // the header counts
		resumed.says("retry: 3000\nid: " + one + "\n\nevent: tick\nid: " + two + "\ndata: 2\n\n")
		resumed.cancel()

		three, four := publish(t, hub, "a", "3"), publish(t, hub, "a", "4")
		gone := get("/?last_event_id=" + one)
		id, err := broadcast.ParseID(three)
		require.NoError(t, err)
		before := broadcast.MakeID(id.Epoch(), id.Seq()-1).String()
		gone.says("retry: 3000\nevent: gap\nid: " + before + "\ndata: {\"gap\":\"" + before + "\",\"topics\":[\"a\"]}\n\n" +
			"event: tick\nid: " + three + "\ndata: 3\n\nevent: tick\nid: " + four + "\ndata: 4\n\n")

		for _, odd := range []string{"nonsense", "2-5", "1-0"} {
			s := get("/?lastEventId=" + odd)
			s.says("retry: 3000\nevent: gap\nid: " + before + "\ndata: {\"gap\":\"" + before + "\"}\n\n")
			s.cancel()
		}
		gone.says(":\n")
		five := publish(t, hub, "b", "5")
		require.NoError(t, hub.Close())
		gone.says("event: tick\nid: " + five + "\ndata: 5\n\n") // what it is owed, then the end
		gone.ends()
	})
}

func TestShutdownEndsStreams(t *testing.T) {
	hub := &broadcast.Hub{}
	h := func() http.Handler { return &sse.Handler{Broadcaster: hub, Topics: []string{"a"}} }
	serve(t, h, func(t *testing.T, server *http.Server, get func(string, ...string) *stream) {
		s := get("/")
		begin, _ := hub.Position(t.Context())
		s.says("retry: 3000\nid: " + begin.String() + "\n\n")
		done := make(chan error, 1)
		go func() { done <- server.Shutdown(t.Context()) }()
		s.ends()
		require.NoError(t, <-done)
	})
}

func TestGrant(t *testing.T) {
	hub := &broadcast.Hub{}
	var left atomic.Int32
	h := func() http.Handler {
		return &sse.Handler{Broadcaster: hub, Logger: slog.New(slog.DiscardHandler), Grant: func(r *http.Request) (*broadcast.Grant, error) {
			switch r.URL.Path {
			case "/panic":
				panic("in Grant")
			case "/none":
				return nil, nil
			case "/away":
				return nil, &broadcast.Refusal{Status: 503}
			case "/no":
				return nil, &broadcast.Refusal{}
			}
			context.AfterFunc(r.Context(), func() { left.Add(1) })
			return &broadcast.Grant{
				Topics:  []string{"a"},
				Last:    1,
				Expires: time.Now().Add(50 * time.Second),
				Filter: func(m *broadcast.Message) bool {
					if string(m.Data) == "poison" {
						panic("in Filter")
					}
					return string(m.Data) != "secret"
				},
				Snapshot: func(context.Context) ([]broadcast.Message, error) {
					return []broadcast.Message{{Topic: "a", Data: []byte("state")}}, nil
				},
			}, nil
		}}
	}
	serve(t, h, func(t *testing.T, server *http.Server, get func(string, ...string) *stream) {
		require.Equal(t, 500, get("/panic").StatusCode)
		require.Equal(t, 500, get("/none").StatusCode)
		require.Equal(t, 503, get("/away").StatusCode)
		require.Equal(t, 403, get("/no").StatusCode)
		event := get("/away", "Accept", "text/event-stream", "Cache-Control", "no-cache")
		require.Equal(t, 200, event.StatusCode, "an EventSource would give up for good")
		require.NotEmpty(t, event.Header.Get("Retry-After"))
		body, err := io.ReadAll(event.body)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(body), "retry: "))
		require.NotContains(t, string(body), "id:")

		publish(t, hub, "a", "before")
		last := publish(t, hub, "a", "last")
		s := get("/")
		s.says("retry: 3000\ndata: state\n\nevent: tick\ndata: last\n\nid: " + last + "\n\n")
		publish(t, hub, "a", "secret")
		moved := publish(t, hub, "a", "poison")
		s.says("id: " + moved + "\n\n") // with the next heartbeat
		s.ends()
		synctest.Wait()
		require.EqualValues(t, 1, left.Load(), "the request's context ends with the stream")

		gap := get("/?lastEventId=1-0")
		buf := make([]byte, 27)
		_, err = io.ReadFull(gap.body, buf)
		require.NoError(t, err)
		require.Equal(t, "retry: 3000\nevent: gap\nid: ", string(buf))
		gap.says("1-0\ndata: {\"gap\":\"1-0\"}\n\ndata: state\n\nid: ") // cut here, it gets the state again
	})
}

func TestRefusedWithoutAStream(t *testing.T) {
	hub := &broadcast.Hub{}
	h := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: slog.New(slog.DiscardHandler)}
	for _, test := range []struct {
		name, method, accept string
		h                    http.Handler
		status               int
	}{
		{"POST", "POST", "", h, 405},
		{"JSON wanted", "GET", "application/json", h, 406},
		{"event streams are excluded", "GET", "*/*, text/event-stream;q=0", h, 406},
		{"no Broadcaster", "GET", "", &sse.Handler{Topics: []string{"a"}, Logger: h.Logger}, 500},
		{"neither Topics nor Grant", "GET", "", &sse.Handler{Broadcaster: hub, Logger: h.Logger}, 500},
		{"HEAD", "HEAD", "text/*", h, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, "/", nil)
			if test.accept != "" {
				r.Header.Set("Accept", test.accept)
			}
			w := httptest.NewRecorder()
			test.h.ServeHTTP(w, r)
			assert.Equal(t, test.status, w.Code)
		})
	}
}

type noFlush struct{ http.ResponseWriter }

func TestWriter(t *testing.T) {
	_, err := sse.NewWriter(noFlush{httptest.NewRecorder()}, httptest.NewRequest("POST", "/", nil), nil)
	require.ErrorIs(t, err, sse.ErrCannotFlush)
	require.ErrorContains(t, err, "sse_test.noFlush")

	w := httptest.NewRecorder()
	s, err := sse.NewWriter(w, httptest.NewRequest("POST", "/", nil), &sse.Options{Retry: -1})
	require.NoError(t, err)
	require.NoError(t, s.Send(sse.Event{Data: []byte("a")}, sse.Event{Type: "done"}))
	require.ErrorIs(t, s.Send(sse.Event{Data: []byte("b")}, sse.Event{Type: "c\r"}), sse.ErrInvalidEvent)
	require.NoError(t, s.SendJSON("n", 1))
	require.NoError(t, s.Context().Err())
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Send(sse.Event{Data: []byte("late")}), sse.ErrClosed)
	require.ErrorIs(t, context.Cause(s.Context()), sse.ErrClosed)
	require.Equal(t, "\ndata: a\n\nevent: done\ndata: \n\nevent: n\ndata: 1\n\n", w.Body.String())
}
