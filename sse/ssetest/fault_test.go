package ssetest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// Whatever happens to the connection, the server ends the stream in the documented time, and
// the client resumes without a loss.
func TestClientGetsEachMessageOnceAfterAFault(t *testing.T) {
	for _, test := range []struct {
		name     string
		fault    func(link *faults.Link)
		loud     bool // a message that does not fit on the way comes after 15 s
		min, max time.Duration
		reason   string
	}{
		{"a client that stops reading", (*faults.Link).Stall, true, 20 * time.Second, 25 * time.Second, "WriteTimeout"},
		{"a client that stops reading a quiet stream", (*faults.Link).Stall, false, time.Hour, time.Hour, "heartbeats fit into the buffer"},
		{"a client that vanishes", (*faults.Link).Vanish, false, 40 * time.Second, 40 * time.Second, "Heartbeat + WriteTimeout after the first heartbeat"},
		{"a cut", (*faults.Link).Cut, true, 0, 0, "the server notices it"},
		{"a cut in the middle of an event", func(link *faults.Link) { link.CutAfter(100 << 10) }, true, 15 * time.Second, 15 * time.Second, "when it passes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNews()
				var link faults.Link
				s := ssetest.Connect(t, n, faults.Via(get(), &link))
				n.publish(t, "first")
				require.Equal(t, "first", string(s.Next().Data))

				began := time.Now()
				test.fault(&link)
				missed := 0
				if test.loud {
					missed++
					time.AfterFunc(15*time.Second, func() { n.publish(t, strings.Repeat("x", 200<<10)) })
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
				n.publish(t, "last")
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

// A client on a slow link is not cut, however much it has to get.
func TestSlowLinkIsNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews()
		s := ssetest.Connect(t, n, faults.Via(get(), &faults.Link{BytesPerSecond: 50_000}))
		began := time.Now()
		for range 10 {
			n.publish(t, strings.Repeat("x", 100_000))
		}
		for range 10 {
			require.Len(t, s.Next().Data, 100_000)
		}
		require.InDelta(t, 20, time.Since(began).Seconds(), 1, "a slow client is not cut")
	})
}

// Diagnose finds a proxy that holds back or compresses a stream. A response that ends passes
// through both.
func TestProxyThatHoldsBackIsDiagnosed(t *testing.T) {
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

// The Link of a request is the one between the client and the proxy.
func TestLinkOfTheRequestEndsAtTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "data: "+strings.Repeat("x", 10000)+"\n\n")
		})
		began := time.Now()
		s := ssetest.Connect(t, faults.Buffer(h), faults.Via(httptest.NewRequest("GET", "/", nil), &faults.Link{BytesPerSecond: 1000}))
		require.NoError(t, s.End())
		require.InDelta(t, 10, time.Since(began).Seconds(), 2)
	})
}

// A response that is cut behind a compressing proxy does not look complete.
func TestCutBehindACompressingProxyIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := range 20000 {
				fmt.Fprintf(w, "data: %d\n\n", i*i*i)
			}
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		s := ssetest.Connect(t, faults.Compress(h), httptest.NewRequest("GET", "/", nil))
		require.Error(t, s.End(), "a cut must not look like an end")
	})
}
