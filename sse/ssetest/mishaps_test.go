package ssetest_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// The body goes out again.
func TestReconnectOfAPost(t *testing.T) {
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
		said := failing.Said(t, func(t testing.TB) {
			s := ssetest.Connect(t, h, httptest.NewRequest("POST", "/", strings.NewReader("hello")))
			require.Equal(t, "hello", string(s.Next().Data))
			s.Reconnect()
			require.Equal(t, "hello", string(s.Next().Data))
		})
		require.Empty(t, said)
	})
}

// The handler sees the TLS of httptest.NewRequest; in memory there is none.
func TestRequestOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := failing.Said(t, func(t testing.TB) {
			s := ssetest.Connect(t, &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, httptest.NewRequest("GET", "https://example.com/", nil))
			s.Close()
		})
		require.Empty(t, said)
		require.NoError(t, ssetest.Diagnose(&sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, httptest.NewRequest("GET", "https://example.com/", nil)))
	})
}

// It is read as a browser reads it.
func TestCompressedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(broadcast.Hub)
		said := failing.Said(t, func(t testing.TB) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept-Encoding", "gzip")
			s := ssetest.Connect(t, chimiddleware.Compress(5, "text/*")(&sse.Handler{Broadcaster: hub, Topics: []string{"a"}}), r)
			hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: []byte("x")})
			s.Next()
		})
		require.Empty(t, said)
	})
}

// An empty id clears the last event ID (WHATWG HTML 9.2.6).
func TestClearedID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "id: 1\ndata: a\n\nid:\ndata: b\n\n")
		}), httptest.NewRequest("GET", "/", nil))
		require.NoError(t, s.End())
		require.Equal(t, "", s.LastEventID())
	})
}

// Each event gives it another minute.
func TestEndOfASlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := failing.Said(t, func(t testing.TB) {
			s := ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, _ := sse.NewWriter(w, r, nil)
				defer s.Close()
				for range 3 {
					time.Sleep(40 * time.Second)
					s.Send(sse.Event{Data: []byte("x")})
				}
			}), httptest.NewRequest("GET", "/", nil))
			s.End()
		})
		require.Empty(t, said)
	})
}

// A wrapper may take for granted what it wraps.
func TestDiagnosePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := wrap(func(w http.ResponseWriter) http.ResponseWriter { return asserting{recorder{w}} }, &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}})
		err := ssetest.Diagnose(h, httptest.NewRequest("GET", "/", nil))
		t.Log(err)
		require.Error(t, err)
		err = ssetest.Diagnose(chimiddleware.Recoverer(h), httptest.NewRequest("GET", "/", nil))
		t.Log(err)
		require.Error(t, err)
	})
}

// What is held back is one finding, not one for each header besides.
func TestDiagnoseHeldBackHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, h := range map[string]http.Handler{"handler": &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}},
			"writer": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, nil)
				if err != nil {
					http.Error(w, "no", 500)
					return
				}
				defer s.Close()
			})} {
			err := ssetest.Diagnose(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b := &buffered{inner: w, header: http.Header{}}
				h.ServeHTTP(b, r)
				for k, v := range b.header {
					w.Header()[k] = v
				}
				w.WriteHeader(b.status)
				w.Write(b.body.Bytes())
			}), httptest.NewRequest("GET", "/", nil))
			t.Log(name, err)
			require.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), 1, name)
		}
	})
}

// It is a new connection, over HTTP/2 too.
func TestReconnectOfAVanishedClient(t *testing.T) {
	for _, v := range []int{1, 2} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := new(broadcast.Hub)
				said := failing.Said(t, func(t testing.TB) {
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
				require.Empty(t, said)
			})
		})
	}
}

// The culprit is found behind many that are innocent.
func TestDiagnoseDeepChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := target()
		for range 14 {
			h = wrap(func(w http.ResponseWriter) http.ResponseWriter { return recorder{w} }, h)
		}
		inner := h
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := bufio.NewWriter(w)
			defer b.Flush()
			inner.ServeHTTP(holder{w, b}, r)
		})
		err := ssetest.Diagnose(h, get())
		t.Log(err)
		require.ErrorContains(t, err, "ssetest_test.holder")
	})
}

// The client's ends at the proxy.
func TestProxyHasALinkOfItsOwn(t *testing.T) {
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

// It must not look like an end.
func TestCompressKeepsACut(t *testing.T) {
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

// What is behind one is another connection.
func TestDirectDoesNotLeadPastAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}
		err := ssetest.Diagnose(middleware.Bypass(faults.Buffer(h)), httptest.NewRequest("GET", "/", nil))
		t.Log(err)
		require.Error(t, err, "a proxy cannot be passed by Bypass on the other side of it")
	})
}

// The test is told, and goes on.
func TestPanicInHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := failing.Said(t, func(t testing.TB) {
			ssetest.Connect(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") }), get())
		})
		t.Log(said)
		s := ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sw, _ := sse.NewWriter(w, r, nil)
			sw.Send(sse.Event{Data: []byte("x")})
			panic("oh2")
		}), get())
		require.Equal(t, "x", string(s.Next().Data))
		require.Error(t, s.End())
	})
}

// A handler that panics as its client leaves, at the end of a test, is heard of before that.
func TestPanicAtTheEnd(t *testing.T) {
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

// recorder has Unwrap and no Flush.
type recorder struct{ http.ResponseWriter }

func (r recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// asserting takes for granted that what it wraps can flush.
type asserting struct{ http.ResponseWriter }

func (r asserting) Flush()                      { r.ResponseWriter.(http.Flusher).Flush() }
func (r asserting) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func wrap(f func(http.ResponseWriter) http.ResponseWriter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(f(w), r) })
}

// buffered has a header of its own, and holds everything back until the end.
type buffered struct {
	inner  http.ResponseWriter
	header http.Header
	body   bytes.Buffer
	status int
}

func (b *buffered) Header() http.Header         { return b.header }
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }
func (b *buffered) Flush()                      {}
func (b *buffered) Unwrap() http.ResponseWriter { return b.inner }
func (b *buffered) WriteHeader(s int) {
	if b.status == 0 {
		b.status = s
	}
}

// holder holds back what is written.
type holder struct {
	http.ResponseWriter
	b *bufio.Writer
}

func (h holder) Write(p []byte) (int, error) { return h.b.Write(p) }
func (h holder) Flush()                      {}
func (h holder) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func target() http.Handler {
	return &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Logger: quietLog}
}

var quietLog = slog.New(slog.DiscardHandler)
