package ssetest_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// A handler that refuses is a Stream with that status and no events.
func TestRefusalIsAStatusWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ssetest.Connect(t, http.NotFoundHandler(), get())
		require.Equal(t, 404, s.Status())
		require.NoError(t, s.End())
		for e := range s.All() {
			t.Error("no stream, and yet an event: ", e)
		}
	})
}

// A method that fails the test reports what arrived so far.
func TestFailureShowsWhatArrived(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(n *news, s *ssetest.Stream)
		want []string
	}{
		{"Next of a stream that has ended", func(n *news, s *ssetest.Stream) { n.Hub.Close(); s.Next(); s.Next() }, []string{
			"the stream has ended", "status 200", `"tick" "hello" (id "`}},
		{"Next of a silent stream", func(n *news, s *ssetest.Stream) { s.Next(); s.Next() }, []string{
			"nothing arrived in 1m0s", "heartbeats", `"tick" "hello"`}},
		{"All of a stream that does not end", func(n *news, s *ssetest.Stream) {
			for range s.All() {
			}
		}, []string{"does not end", `"tick" "hello"`}},
		{"End of a stream that does not end", func(n *news, s *ssetest.Stream) { s.End() }, []string{"does not end", `"tick" "hello"`}},
		{"Quiet of a stream with an event", func(n *news, s *ssetest.Stream) { s.Quiet(time.Second) }, []string{"an event has arrived", `"tick" "hello"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				report := failing.Said(t, func(tb testing.TB) {
					n := newNews()
					s := ssetest.Connect(tb, n, get())
					n.publish(t, "hello")
					test.do(n, s)
				})
				for _, want := range test.want {
					require.Contains(t, report, want)
				}
			})
		})
	}
	t.Run("Connect to a handler that does not answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			report := failing.Said(t, func(tb testing.TB) {
				ssetest.Connect(tb, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), get())
			})
			require.Contains(t, report, "no answer: none has arrived in 1m0s")
		})
	})
}

// A handler that panics ends its connection with an error, not the process.
func TestPanicOfAHandlerFailsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := failing.Said(t, func(t testing.TB) {
			ssetest.Connect(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") }), get())
		})
		t.Log(report)
		s := ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sw, _ := sse.NewWriter(w, r, nil)
			sw.Send(sse.Event{Data: []byte("x")})
			panic("oh2")
		}), get())
		require.Equal(t, "x", string(s.Next().Data))
		require.Error(t, s.End())
	})
}

// A handler that panics as its client leaves, at the end of a test, is waited for.
func TestPanicAfterTheEndOfATestIsNotLost(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sw, err := sse.NewWriter(w, r, nil)
				if err != nil {
					return
				}
				defer sw.Close()
				<-sw.Context().Done()
				panic("a bug in the user's handler")
			}), get())
			if s.Status() != 200 {
				t.Fail()
			}
		})
	}
}
