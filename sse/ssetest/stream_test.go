package ssetest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// news is a stream of one topic, and how to publish on it.
type news struct {
	broadcast.Hub
	sse.Handler
}

func newNews() *news {
	n := &news{}
	n.Broadcaster, n.Topics = &n.Hub, []string{"news"}
	return n
}

func (n *news) say(t testing.TB, text string) {
	t.Helper()
	_, err := n.Publish(context.Background(), broadcast.Message{Topic: "news", Type: "tick", Data: []byte(text)})
	require.NoError(t, err)
}

func get() *http.Request { return httptest.NewRequest("GET", "/", nil) }

func TestStream(t *testing.T) {
	for version, name := range []string{1: "HTTP/1.1", 2: "HTTP/2"} {
		if name == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNews()
				r := get()
				r.ProtoMajor = version
				s := ssetest.Connect(t, n, r)
				require.Equal(t, 200, s.Status())
				require.Equal(t, "text/event-stream", s.Header().Get("Content-Type"))

				n.say(t, "one")
				e := s.Next()
				require.Equal(t, "tick one", e.Type+" "+string(e.Data))
				require.Equal(t, e.ID, s.LastEventID())

				began := time.Now()
				s.Quiet(50 * time.Second)
				require.Equal(t, 50*time.Second, time.Since(began))
				require.Equal(t, 3, s.Heartbeats())

				s.Close()
				n.say(t, "two")
				n.say(t, "three")
				s.Reconnect()
				require.Equal(t, "two", string(s.Next().Data))
				n.say(t, "four")

				require.NoError(t, n.Hub.Close())
				require.NoError(t, s.End(), "a proper end")
				var rest []string
				for e := range s.All() {
					rest = append(rest, string(e.Data))
				}
				require.Equal(t, []string{"three", "four"}, rest)
			})
		})
	}
}

func TestStreamSleepsForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews()
		s := ssetest.Connect(t, n, get())
		for range 10 {
			n.say(t, strings.Repeat("x", 1<<20))
		}
		time.Sleep(time.Hour)
		for range 10 {
			require.Len(t, s.Next().Data, 1<<20)
		}
		require.InDelta(t, 240, s.Heartbeats(), 1)
	})
}

func TestPositionOfAQuietStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews()
		s := ssetest.Connect(t, n, get())
		synctest.Wait()
		first := s.LastEventID()
		require.NotEmpty(t, first, "a stream begins with its position")
		id, err := n.Publish(t.Context(), broadcast.Message{Topic: "other"})
		require.NoError(t, err)
		s.Quiet(16 * time.Second)
		require.Equal(t, id.String(), s.LastEventID())
	})
}

type key struct{}

func TestRequest(t *testing.T) {
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

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ssetest.Connect(t, http.NotFoundHandler(), get())
		require.Equal(t, 404, s.Status())
		require.NoError(t, s.End())
		for e := range s.All() {
			t.Error("no stream, and yet an event: ", e)
		}
	})
}

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name     string
		fault    func(link *faults.Link)
		loud     bool // a message that does not fit on the way comes after 15 s
		min, max time.Duration
		reason   string
	}{
		{"a client that stops reading", (*faults.Link).Stall, true, 20 * time.Second, 25 * time.Second, "WriteTimeout"},
		{"a client that stops reading what is quiet", (*faults.Link).Stall, false, time.Hour, time.Hour, "heartbeats fit into the buffer"},
		{"a client that vanishes", (*faults.Link).Vanish, false, 40 * time.Second, 40 * time.Second, "Heartbeat + WriteTimeout behind the first heartbeat"},
		{"a cut", (*faults.Link).Cut, true, 0, 0, "the server hears of it"},
		{"a cut in the middle of an event", func(link *faults.Link) { link.CutAfter(100 << 10) }, true, 15 * time.Second, 15 * time.Second, "when it passes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNews()
				var link faults.Link
				s := ssetest.Connect(t, n, faults.Via(get(), &link))
				n.say(t, "first")
				require.Equal(t, "first", string(s.Next().Data))

				began := time.Now()
				test.fault(&link)
				missed := 0
				if test.loud {
					missed++
					time.AfterFunc(15*time.Second, func() { n.say(t, strings.Repeat("x", 200<<10)) })
				}
				synctest.Wait()
				for n.Hub.Stats().Subscriptions > 0 && time.Since(began) < time.Hour {
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
				}
				assert.GreaterOrEqual(t, time.Since(began), test.min, test.reason)
				assert.LessOrEqual(t, time.Since(began), test.max+10*time.Millisecond, test.reason)

				time.Sleep(time.Minute)
				link.Resume()
				n.say(t, "last")
				s.Reconnect()
				for range missed {
					require.Len(t, s.Next().Data, 200<<10, "whole, and once")
				}
				require.Equal(t, "last", string(s.Next().Data))
				s.Quiet(time.Minute)
			})
		})
	}
}

func TestSlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews()
		s := ssetest.Connect(t, n, faults.Via(get(), &faults.Link{BytesPerSecond: 50_000}))
		began := time.Now()
		for range 10 {
			n.say(t, strings.Repeat("x", 100_000))
		}
		for range 10 {
			require.Len(t, s.Next().Data, 100_000)
		}
		require.InDelta(t, 20, time.Since(began).Seconds(), 1, "a slow client is not cut for being given much")
	})
}

func TestProxies(t *testing.T) {
	for name, proxy := range map[string]func(http.Handler) http.Handler{"Buffer": faults.Buffer, "Compress": faults.Compress} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNews()
				err := ssetest.Diagnose(proxy(n), get())
				require.ErrorContains(t, err, map[string]string{"Buffer": "held back by what stands before", "Compress": "compressed (gzip) without flushing"}[name])

				// A stream that ends passes.
				n.Options.MaxAge = 10 * time.Second
				s := ssetest.Connect(t, proxy(n), get())
				if name == "Buffer" {
					require.NoError(t, s.End())
					require.NotEmpty(t, s.LastEventID())
				}
			})
		})
	}
	t.Run("a refusal passes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := ssetest.Connect(t, faults.Buffer(http.NotFoundHandler()), get())
			require.Equal(t, 404, s.Status())
		})
	})
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(n *news, s *ssetest.Stream)
		want []string
	}{
		{"Next of a stream that has ended", func(n *news, s *ssetest.Stream) { n.Hub.Close(); s.Next(); s.Next() }, []string{
			"the stream has ended", "status 200", `"tick" "hello" (id "`}},
		{"Next of a stream that says nothing", func(n *news, s *ssetest.Stream) { s.Next(); s.Next() }, []string{
			"nothing came in 1m0s", "heartbeats", `"tick" "hello"`}},
		{"All of a stream that does not end", func(n *news, s *ssetest.Stream) {
			for range s.All() {
			}
		}, []string{"does not end", `"tick" "hello"`}},
		{"End of a stream that does not end", func(n *news, s *ssetest.Stream) { s.End() }, []string{"does not end", `"tick" "hello"`}},
		{"Quiet of a stream that says something", func(n *news, s *ssetest.Stream) { s.Quiet(time.Second) }, []string{"an event has come", `"tick" "hello"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				said := failing.Said(t, func(tb testing.TB) {
					n := newNews()
					s := ssetest.Connect(tb, n, get())
					n.say(t, "hello")
					test.do(n, s)
				})
				for _, want := range test.want {
					require.Contains(t, said, want)
				}
			})
		})
	}
	t.Run("Connect to a handler that does not answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			said := failing.Said(t, func(tb testing.TB) {
				ssetest.Connect(tb, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), get())
			})
			require.Contains(t, said, "no answer: none has come in 1m0s")
		})
	})
}
