package sse_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
)

// The headers keep proxies from caching, changing or holding back the stream. HEAD gets the
// same headers, and opens nothing.
func TestHeadersAreSetForGETAndHEAD(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
	wrapped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Cache-Control", "public")
		w.Header().Set("Set-Cookie", "a=b")
		h.ServeHTTP(w, r)
	})
	serve(t, wrapped, func(t *testing.T, n *network) {
		for _, method := range []string{"GET", "HEAD"} {
			s := n.do(method, "/", nil)
			require.Equal(t, 200, s.StatusCode, method)
			assert.Equal(t, []string{"text/event-stream"}, s.Header.Values("Content-Type"), method)
			assert.Equal(t, []string{"no-store, no-transform"}, s.Header.Values("Cache-Control"), method)
			assert.Equal(t, []string{"no"}, s.Header.Values("X-Accel-Buffering"), method)
			assert.Equal(t, "a=b", s.Header.Get("Set-Cookie"), "a header that was set before is kept")
			if method == "HEAD" {
				s.expectEnd()
				require.Zero(t, hub.Stats().Subscriptions, "HEAD opens no subscription")
				continue
			}
			s.expectBegin()
			require.EqualValues(t, -1, s.ContentLength)
			s.cancel()
			synctest.Wait()
		}
	})
}

// Only a GET or HEAD whose Accept admits text/event-stream reaches Grant.
func TestMethodAndAcceptAreCheckedBeforeGrant(t *testing.T) {
	var hub broadcast.Hub
	var granted atomic.Int32
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		granted.Add(1)
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}}
	for _, test := range []struct {
		name, why, method string
		accept            []string
		status            int
	}{
		{"POST", "a stream is read, not written", "POST", nil, 405},
		{"PUT", "a stream is read, not written", "PUT", nil, 405},
		{"OPTIONS", "CORS is a middleware's", "OPTIONS", nil, 405},
		{"a wrong method and a wrong type", "the method comes first", "DELETE", []string{"text/html"}, 405},
		{"no Accept", "the client takes anything", "GET", nil, 200},
		{"HEAD", "as GET, without the stream", "HEAD", nil, 200},
		{"what an EventSource sends", "it is the type itself", "GET", []string{"text/event-stream"}, 200},
		{"with parameters", "they do not matter", "GET", []string{"text/event-stream; charset=utf-8"}, 200},
		{"in capitals", "types have no case", "GET", []string{"TEXT/Event-Stream;Q=0.5"}, 200},
		{"any text", "it is text", "GET", []string{"text/*"}, 200},
		{"anything", "it is something", "GET", []string{"*/*"}, 200},
		{"a browser's navigation", "it ends with anything", "GET", []string{"text/html,application/xhtml+xml,*/*;q=0.8"}, 200},
		{"in a second line", "lines are one list", "GET", []string{"text/html", "text/event-stream"}, 200},
		{"another type", "the client could not read it", "GET", []string{"application/json"}, 406},
		{"excluded", "q=0 excludes it", "GET", []string{"text/event-stream;q=0"}, 406},
		{"excluded in other digits", "q=0.000 excludes it", "GET", []string{"text/event-stream;q=0.000"}, 406},
		{"excluded from anything", "the most specific range counts", "GET", []string{"*/*, text/event-stream;q=0"}, 406},
		{"excluded as text", "the most specific range counts", "GET", []string{"text/*;q=0, */*"}, 406},
		{"text excluded, but not this", "the most specific range counts", "GET", []string{"text/*;q=0, text/event-stream;q=0.1"}, 200},
		{"nothing wanted", "q=0 excludes it", "GET", []string{"*/*;q=0"}, 406},
		{"next to what is no type", "the other ranges count", "GET", []string{"???, text/event-stream"}, 200},
		{"HEAD of another type", "as GET", "HEAD", []string{"text/html"}, 406},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			granted.Store(0)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				r := httptest.NewRequestWithContext(ctx, test.method, "/", nil)
				r.Header["Accept"] = test.accept
				h.ServeHTTP(w, r)
			})
			assert.Equal(t, test.status, w.Code, test.why)
			allow := ""
			if test.status == 405 {
				allow = "GET, HEAD"
			}
			assert.Equal(t, allow, w.Header().Get("Allow"))
			assert.Equal(t, test.status == 200, granted.Load() == 1, "Grant is called only for a request that can get a stream")
		})
	}
}

// A handler streams into an httptest.ResponseRecorder: it can flush, and has no deadlines.
func TestHandlerStreamsIntoARecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent}
		id := publish(t, &hub, "a", "x")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/?lastEventId="+before(t, id), nil))
		require.Equal(t, 200, w.Code)
		require.True(t, w.Flushed)
		require.Equal(t, "retry: 3000\nid: "+before(t, id)+"\n\n"+tick(id, "x"), nominal(w.Body.String()))
	})
}

// A ResponseWriter through which no Flush can be reached is refused before Grant, by an error
// that names the wrapper in the way. One without deadlines streams, and is warned of once.
func TestWrapperWithoutFlushIsRefusedByName(t *testing.T) {
	for _, test := range []struct {
		name, why string
		wrap      func(http.ResponseWriter) http.ResponseWriter
		error     string // the wrapper that the refusal names
		warned    string // the wrapper that the warning names
	}{
		{"the server's own", "it can flush and has deadlines", func(w http.ResponseWriter) http.ResponseWriter { return w }, "", ""},
		{"wrapped", "Unwrap leads to it", func(w http.ResponseWriter) http.ResponseWriter { return unwraps{w} }, "", ""},
		{"wrapped twice", "Unwrap leads to it", func(w http.ResponseWriter) http.ResponseWriter { return unwraps{unwraps{w}} }, "", ""},
		{"without Flush", "events would stay in a buffer", func(w http.ResponseWriter) http.ResponseWriter { return noFlush{w} }, "sse_test.noFlush", ""},
		{"without Flush inside of a wrapper", "the error names the one that lacks Flush", func(w http.ResponseWriter) http.ResponseWriter { return unwraps{noFlush{w}} }, "sse_test.noFlush", ""},
		{"without deadlines", "it streams without deadlines", func(w http.ResponseWriter) http.ResponseWriter { return flushOnly{w} }, "", "sse_test.flushOnly"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var hub broadcast.Hub
			log := &logbook{}
			granted := 0
			h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
				granted++
				return &fanfare.Grant{Topics: []string{"a"}}, nil
			}}
			var refused error
			if test.error != "" {
				h.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
					refused = err
					w.WriteHeader(http.StatusTeapot)
				}
			}
			wrapped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(test.wrap(w), r) })
			serve(t, wrapped, func(t *testing.T, n *network) {
				if test.error != "" {
					require.Equal(t, http.StatusTeapot, n.get("/").StatusCode, "nothing has been sent: %s", test.why)
					require.ErrorIs(t, refused, sse.ErrCannotFlush)
					require.ErrorContains(t, refused, test.error)
					require.ErrorContains(t, refused, "Unwrap")
					require.Zero(t, granted)
					require.Len(t, log.lines, 1)
					require.Equal(t, "ERROR", log.lines[0]["level"])
					return
				}
				for range 3 {
					s := n.get("/")
					s.expectBegin()
					id := publish(t, &hub, "a", "x")
					s.expect(tick(id, "x"))
					time.Sleep(time.Minute)
					require.Equal(t, ":\n:\n:\n:\n", s.received())
					s.cancel()
					synctest.Wait()
				}
				lines := log.with("deadlines")
				if test.warned == "" {
					require.Empty(t, lines, test.why)
					return
				}
				require.Len(t, lines, 1, "once")
				require.Equal(t, "WARN", lines[0]["level"])
				require.Equal(t, test.warned, lines[0]["wrapper"])
			}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
		})
	}
}

// The response to HEAD has a header alone (RFC 9110 section 9.3.2): a Writer of it is closed
// and its Context has ended, so that no handler is left. The connection serves what follows.
func TestWriterOfHEADHasEnded(t *testing.T) {
	for name, configure := range map[string]func(*network){"HTTP/1.1": func(*network) {}, "HTTP/2": overHTTP2} {
		for _, bypass := range []bool{false, true} {
			var running, served atomic.Int32
			var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				running.Add(1)
				defer running.Add(-1)
				w.Header().Set("Set-Cookie", "a=b")
				s, err := sse.NewWriter(w, r, nil)
				if !assert.NoError(t, err) {
					return
				}
				if r.Method == "HEAD" {
					assert.Error(t, s.Context().Err())
					assert.ErrorIs(t, s.Send(sse.Event{Data: []byte("x")}), sse.ErrClosed)
					assert.ErrorIs(t, s.Comment("x"), sse.ErrClosed)
					served.Add(1)
				}
				<-s.Context().Done()
				time.Sleep(time.Second) // the header does not wait for the handler
				assert.NoError(t, s.Close())
			})
			if bypass {
				h = middleware.Bypass(h)
			}
			mux := http.NewServeMux()
			mux.Handle("GET /stream", h)
			mux.HandleFunc("GET /next", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "next") })
			t.Run(fmt.Sprintf("%s/bypass=%v", name, bypass), func(t *testing.T) {
				serve(t, mux, func(t *testing.T, n *network) {
					for range 2 {
						began := time.Now()
						s := n.do("HEAD", "/stream", nil)
						require.Zero(t, time.Since(began))
						require.Equal(t, 200, s.StatusCode)
						require.Equal(t, "text/event-stream", s.Header.Get("Content-Type"))
						require.Equal(t, "a=b", s.Header.Get("Set-Cookie"))
						s.expectEnd()
						time.Sleep(2 * time.Second)
						require.Zero(t, running.Load())
					}
					n.get("/next").expectAll("next")
					require.EqualValues(t, 1, n.dials.Load(), "all over one connection")
				}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 }, configure)
				require.EqualValues(t, 2, served.Load())
			})
		}
	}
}

// Two HEADs at once on one connection, which then closes, leave no handler.
func TestPipelinedHEADsLeaveNoWriter(t *testing.T) {
	var began, running atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began.Add(1)
		running.Add(1)
		defer running.Add(-1)
		s, err := sse.NewWriter(w, r, nil)
		if assert.NoError(t, err) {
			defer s.Close()
			<-s.Context().Done()
		}
	})
	serve(t, h, func(t *testing.T, n *network) {
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		go io.Copy(io.Discard, c)
		_, err = io.WriteString(c, strings.Repeat("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 2))
		require.NoError(t, err)
		synctest.Wait()
		c.Close()
		synctest.Wait()
		require.EqualValues(t, 2, began.Load())
		require.Zero(t, running.Load())
	}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
}
