package sse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// written is a handler that streams what write sends.
func written(t *testing.T, o *sse.Options, write func(s *sse.Writer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.NewWriter(w, r, o)
		if !assert.NoError(t, err) {
			return
		}
		defer s.Close()
		write(s)
	})
}

// Send writes its events in one write. If one is invalid none is written, and the stream goes
// on.
func TestSendWritesAllEventsOrNone(t *testing.T) {
	w := &recorder{header: http.Header{}}
	s, err := sse.NewWriter(w, httptest.NewRequest("POST", "/", nil), nil)
	require.NoError(t, err)
	require.Equal(t, 200, w.status)
	require.Equal(t, "text/event-stream", w.header.Get("Content-Type"))
	require.Equal(t, "no-store, no-transform", w.header.Get("Cache-Control"))
	require.Equal(t, "no", w.header.Get("X-Accel-Buffering"))
	want := "retry: 3000\n"
	require.Equal(t, want, w.sent(), "the client knows at once that it is connected")

	sent := func(more string, writes int) {
		t.Helper()
		require.Equal(t, want+more, w.sent())
		require.Len(t, w.writes, writes)
		want, w.writes = want+more, nil
	}
	sent("", 1)
	require.NoError(t, s.Send(sse.Event{ID: "1", Type: "t", Data: []byte("a\nb"), Retry: time.Second}, sse.Event{ID: "2"}, sse.Event{Data: []byte{}}))
	sent("retry: 1000\nevent: t\nid: 1\ndata: a\ndata: b\n\nid: 2\n\ndata: \n\n", 1)
	require.NoError(t, s.Send())
	require.NoError(t, s.Send(sse.Event{}, sse.Event{}))
	sent("", 0)
	for _, invalid := range []sse.Event{{Type: "c\r"}, {ID: "\x00"}, {Data: []byte{0xff}}, {Retry: -1}} {
		require.ErrorIs(t, s.Send(sse.Event{Data: []byte("b")}, invalid, sse.Event{Data: []byte("c")}), sse.ErrInvalidEvent)
	}
	sent("", 0)
	require.NoError(t, s.Send(sse.Event{Data: []byte("good")}))
	sent("data: good\n\n", 1)

	require.NoError(t, s.SendJSON("n", map[string]any{"a": "<b>\n"}))
	sent("event: n\ndata: {\"a\":\"\\u003cb\\u003e\\n\"}\n\n", 1)
	require.NoError(t, s.SendJSON("", nil))
	sent("data: null\n\n", 1)
	var unsupported *json.UnsupportedTypeError
	require.ErrorAs(t, s.SendJSON("n", func() {}), &unsupported)
	require.ErrorIs(t, s.SendJSON("a\nb", 1), sse.ErrInvalidEvent)
	sent("", 0)
	require.NoError(t, s.Context().Err(), "the stream goes on")

	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Send(sse.Event{Data: []byte("late")}), sse.ErrClosed)
	require.ErrorIs(t, s.SendJSON("", "late"), sse.ErrClosed)
	require.ErrorIs(t, context.Cause(s.Context()), sse.ErrClosed)
	sent("", 0)
}

// A Writer sends its first block at once.
func TestWriterBeginsWithItsPrologue(t *testing.T) {
	for _, test := range []struct {
		name, why, target string
		options           *sse.Options
		want              string
	}{
		{"by default", "a client that is cut waits", "/", nil, "retry: 3000\n"},
		{"the zero Options", "they are the defaults", "/", &sse.Options{}, "retry: 3000\n"},
		{"another time", "it is the handler's to choose", "/", &sse.Options{Retry: time.Minute}, "retry: 60000\n"},
		{"none", "the client's own default applies", "/", &sse.Options{Retry: -1}, ""},
		{"padding", "old polyfills wait for 2 KB", "/?padding=true", nil, ":" + strings.Repeat(" ", 2048) + "\nretry: 3000\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &recorder{header: http.Header{}}
			s, err := sse.NewWriter(w, httptest.NewRequest("GET", test.target, nil), test.options)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.Equal(t, test.want, w.sent(), test.why)
		})
	}
}

// NewWriter sends nothing where no Flush can be reached. Without deadlines it streams.
func TestNewWriterRefusesAWrapperWithoutFlush(t *testing.T) {
	w := httptest.NewRecorder()
	s, err := sse.NewWriter(unwraps{noFlush{w}}, httptest.NewRequest("POST", "/", nil), nil)
	require.Nil(t, s)
	require.ErrorIs(t, err, sse.ErrCannotFlush)
	require.ErrorContains(t, err, "sse_test.noFlush")
	require.Empty(t, w.Header(), "nothing was sent: the caller answers")
	http.Error(w, "no", 500)
	require.Equal(t, 500, w.Code)

	plain := httptest.NewRecorder() // without deadlines it streams as well
	s, err = sse.NewWriter(flushOnly{plain}, httptest.NewRequest("POST", "/", nil), nil)
	require.NoError(t, err)
	require.NoError(t, s.Send(sse.Event{Data: []byte("a")}))
	require.NoError(t, s.Close())
	require.Equal(t, "retry: 3000\ndata: a\n\n", nominal(plain.Body.String()))
	require.True(t, plain.Flushed)
}

// Each event of a response to a POST arrives as it is sent, past the server's timeouts, and
// the connection serves the next request.
func TestTokensOfAnAnswerArriveOneByOne(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		question, err := io.ReadAll(r.Body)
		if !assert.NoError(t, err) {
			return
		}
		s, err := sse.NewWriter(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer s.Close()
		for token := range strings.FieldsSeq(string(question)) {
			time.Sleep(4 * time.Second) // beyond the server's timeouts
			assert.NoError(t, s.SendJSON("token", token))
		}
		assert.NoError(t, s.Send(sse.Event{Type: "done"}))
	})
	serve(t, h, func(t *testing.T, n *network) {
		for range 2 { // over the same connection
			s := n.do("POST", "/", strings.NewReader("to be or not"))
			s.expect("retry: 3000\n")
			for _, token := range []string{"to", "be", "or", "not"} {
				at := time.Now()
				s.expect("event: token\ndata: \"" + token + "\"\n\n")
				require.Equal(t, 4*time.Second, time.Since(at), "as soon as it is there")
			}
			s.expect("event: done\ndata: \n\n")
			s.expectEnd()
			synctest.Wait()
		}
		require.EqualValues(t, 1, n.dials.Load())
	}, func(n *network) { n.server.IdleTimeout = time.Hour })
}

// MaxAge ends the Context, not the stream: the handler may send a last event.
func TestMaxAgeEndsTheContextOfAWriter(t *testing.T) {
	var ended atomic.Int64
	h := written(t, &sse.Options{MaxAge: 100 * time.Second}, func(s *sse.Writer) {
		began := time.Now()
		<-s.Context().Done()
		took := time.Since(began)
		assert.GreaterOrEqual(t, took, 80*time.Second)
		assert.LessOrEqual(t, took, 100*time.Second)
		assert.ErrorContains(t, context.Cause(s.Context()), "MaxAge")
		assert.NoError(t, s.Send(sse.Event{Data: []byte("goodbye")}), "the handler may send a last event")
		assert.NoError(t, s.Close())
		assert.ErrorContains(t, context.Cause(s.Context()), "MaxAge", "the first cause is kept")
		ended.Add(1)
	})
	serve(t, h, func(t *testing.T, n *network) {
		for range 20 {
			s := n.get("/")
			rest, err := s.rest()
			require.NoError(t, err)
			require.Equal(t, "retry: 3000\ndata: goodbye\n\n", strings.ReplaceAll(rest, ":\n", ""))
		}
		require.EqualValues(t, 20, ended.Load())
	})
}

// Send is safe for concurrent use. Events of one Send stay together, and those of one
// goroutine in order.
func TestEventsOfOneSendStayTogether(t *testing.T) {
	const senders, each = 16, 200
	w := &recorder{header: http.Header{}}
	s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), &sse.Options{Heartbeat: 50 * time.Microsecond})
	require.NoError(t, err)
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			for j := range each {
				pair := fmt.Sprintf("%d\n%d", i, j)
				assert.NoError(t, s.Send(sse.Event{Type: "first", Data: []byte(pair)}, sse.Event{Type: "second", Data: []byte(pair)}))
			}
		})
	}
	all.Wait()
	require.NoError(t, s.Close())
	got, _ := events(t, w.sent())
	require.Len(t, got, 2*senders*each)
	next := map[int]int{}
	for k := 0; k < len(got); k += 2 {
		require.Equal(t, "first", got[k].Type)
		require.Equal(t, "second", got[k+1].Type, "events of one Send stay together")
		require.Equal(t, got[k].Data, got[k+1].Data)
		var i, j int
		_, err := fmt.Sscanf(string(got[k].Data), "%d\n%d", &i, &j)
		require.NoError(t, err)
		require.Equal(t, next[i], j, "in order")
		next[i]++
	}
}

// The Context ends when the client leaves, without a Send.
func TestContextEndsWhenTheClientLeaves(t *testing.T) {
	ended := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		s, err := sse.NewWriter(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		<-s.Context().Done()
		ended <- context.Cause(s.Context())
		assert.NoError(t, s.Close())
	})
	for _, protocol := range []func(*network){func(*network) {}, overHTTP2} {
		serve(t, h, func(t *testing.T, n *network) {
			s := n.do("POST", "/", strings.NewReader("question"))
			s.expect("retry: 3000\n:\n:\n")
			s.cancel()
			synctest.Wait()
			require.ErrorIs(t, <-ended, context.Canceled)
		}, protocol)
	}
}

// A request body that does not arrive holds a handler for WriteTimeout at most.
func TestMissingRequestBodyHoldsNoWriter(t *testing.T) {
	var returned atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer returned.Store(true)
		s, err := sse.NewWriter(w, r, nil)
		if err != nil {
			return
		}
		defer s.Close()
		s.SendJSON("", 1)
	})
	serve(t, h, func(t *testing.T, n *network) {
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
		require.NoError(t, err)
		go io.Copy(io.Discard, c)
		time.Sleep(24 * time.Hour)
		assert.True(t, returned.Load(), "handler")
	})
}

// An idle Writer is not reset over HTTP/2.
func TestIdleWriterSurvivesOverHTTP2(t *testing.T) {
	h := written(t, nil, func(s *sse.Writer) {
		time.Sleep(14 * time.Second)
		assert.NoError(t, s.Send(sse.Event{Data: []byte("1")}))
		time.Sleep(5*time.Minute - time.Second)
		assert.NoError(t, s.Send(sse.Event{Data: []byte("2")}))
	})
	serve(t, h, func(t *testing.T, n *network) {
		s := n.do("POST", "/", strings.NewReader("question"))
		rest, err := s.rest()
		require.NoError(t, err)
		require.Equal(t, "retry: 3000\ndata: 1\n\n"+strings.Repeat(":\n", 19)+"data: 2\n\n", rest)
	}, overHTTP2)
}

// Negative Options turn off heartbeats, deadlines, retry and MaxAge.
func TestNegativeOptionsTurnEverythingOff(t *testing.T) {
	off := &sse.Options{Heartbeat: -1, WriteTimeout: -1, Retry: -1, MaxAge: math.MinInt64}
	h := written(t, off, func(s *sse.Writer) {
		time.Sleep(24 * time.Hour)
		assert.NoError(t, s.Send(sse.Event{Data: []byte("x")}))
	})
	serve(t, h, func(t *testing.T, n *network) {
		rest, err := n.get("/").rest()
		require.NoError(t, err)
		require.Equal(t, "data: x\n\n", rest)
	})
}
