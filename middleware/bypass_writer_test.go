package middleware_test

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// The stream takes the writer, the timeout fires before the stream has attached to
// the holds: the place is released, and released again when the stream ends.
func TestHoldReleasedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Total: 1, Logger: silent}
		h := &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent,
			Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
				time.Sleep(40 * time.Second) // looks something up
				return func(ws.MessageType, []byte) error { return nil }
			}}
		chain := middleware.Bypass(limit.Handler(http.TimeoutHandler(h, 30*time.Second, "too late")))
		c := wstest.Dial(t, chain, get("/"))
		time.Sleep(time.Minute)
		// The stream is open, and holds the one place.
		require.Equal(t, 503, ssetest.Connect(t, limit.Handler(news(&hub)), get("/")).Status(), "the place is taken")
		require.NoError(t, c.Close(ws.StatusNormalClosure, ""))
		synctest.Wait()
		a := ssetest.Connect(t, limit.Handler(news(&hub)), get("/"))
		require.Equal(t, 200, a.Status())
		require.Equal(t, 503, ssetest.Connect(t, limit.Handler(news(&hub)), get("/")).Status(), "Total is 1")
	})
}

// The same with Drain: Shutdown does not know of the stream, and the process
// panics when it ends.
func TestDrainReleasedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Logger: silent}
		h := &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent,
			Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
				time.Sleep(40 * time.Second)
				return func(ws.MessageType, []byte) error { return nil }
			}}
		chain := middleware.Bypass(drain.Handler(http.TimeoutHandler(h, 30*time.Second, "too late")))
		c := wstest.Dial(t, chain, get("/"))
		time.Sleep(time.Minute)
		ended := make(chan error, 1)
		go func() {
			for {
				if _, _, err := c.Read(context.Background()); err != nil {
					ended <- err
					return
				}
			}
		}()
		require.NoError(t, drain.Shutdown(t.Context()))
		synctest.Wait()
		select {
		case err := <-ended:
			require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
		default:
			t.Error("Shutdown has returned, and the stream is still open")
		}
		c.Close(ws.StatusNormalClosure, "")
		synctest.Wait()
	})
}

// slowWriter is a server's writer whose first Write takes a while.
type slowWriter struct {
	http.ResponseWriter
	entered, leave chan struct{}
	writing        atomic.Bool
}

func (s *slowWriter) Write(b []byte) (int, error) {
	s.writing.Store(true)
	defer s.writing.Store(false)
	close(s.entered)
	<-s.leave
	return len(b), errors.New("gone")
}
func (s *slowWriter) Flush() {}

// The client leaves while NewWriter writes the beginning, and TimeoutHandler gives up:
// Bypass returns although the writer is in use.
func TestNewWriterOutlivesDirect(t *testing.T) {
	w := &slowWriter{ResponseWriter: httptest.NewRecorder(), entered: make(chan struct{}), leave: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	handled := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(handled)
		s, err := sse.NewWriter(w, r, nil)
		if err == nil {
			s.Close()
		}
	})
	returned := make(chan bool, 1)
	go func() {
		middleware.Bypass(http.TimeoutHandler(h, time.Minute, "")).ServeHTTP(w, get("/").WithContext(ctx))
		returned <- w.writing.Load()
	}()
	<-w.entered
	cancel()
	select {
	case writing := <-returned:
		assert.False(t, writing, "Bypass has returned while the stream writes to the ResponseWriter")
		close(w.leave)
	case <-time.After(300 * time.Millisecond):
		close(w.leave)
		<-returned
	}
	<-handled
}

// Over HTTP/2, Close of a Writer whose client has left touches a ResponseWriter
// that net/http has taken back.
func TestCloseAfterForgottenHTTP2(t *testing.T) {
	result := make(chan any, 1)
	timedOut, returned := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.NewWriter(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer func() {
			p := recover()
			result <- p
		}()
		defer s.Close()
		<-r.Context().Done()
		close(timedOut)
		<-s.Context().Done()
		select { // it saves what it has
		case <-returned:
		case <-time.After(200 * time.Millisecond):
		}
	})
	direct := middleware.Bypass(http.TimeoutHandler(h, 100*time.Millisecond, "too late"))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(returned)
		direct.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	require.Equal(t, 2, response.ProtoMajor)
	<-timedOut
	cancel()
	require.Nil(t, <-result)
}

// What is copied holds the gate's mutex, so a reader that moves the deadline on, or flushes, waits
// for itself.
func TestReadFromDeadlock(t *testing.T) {
	for name, touch := range map[string]func(w http.ResponseWriter){
		"deadline": func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
		},
		"flush": func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body := strings.NewReader("copied")
				_, err := io.Copy(w, readerFunc(func(b []byte) (int, error) { touch(w); return body.Read(b) }))
				assert.NoError(t, err)
			})
			for _, test := range []struct {
				name string
				h    http.Handler
			}{{"without", h}, {"with", middleware.Bypass(h)}} {
				server := httptest.NewServer(test.h)
				client := &http.Client{Timeout: time.Second}
				response, err := client.Get(server.URL)
				var b []byte
				if err == nil {
					b, err = io.ReadAll(response.Body)
				}
				assert.NoError(t, err, test.name)
				assert.Equal(t, "copied", string(b), test.name)
				if err == nil {
					server.Close()
				}
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// A Hijack (or Flush) that is not supported counts as an answer: headers set afterwards are lost,
// and a stream cannot begin any more.
func TestFailedHijack(t *testing.T) {
	serve := func(h http.HandlerFunc) *http.Response {
		server := httptest.NewUnstartedServer(middleware.Bypass(h))
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		response, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
	response := serve(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); err != nil { // HTTP/2
			w.Header().Set("X-Why", "no hijack")
			http.Error(w, "no websockets here", http.StatusNotImplemented)
		}
	})
	assert.Equal(t, 501, response.StatusCode)
	assert.Equal(t, "no hijack", response.Header.Get("X-Why"))

	response = serve(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
			s, err := sse.NewWriter(w, r, nil)
			if err != nil {
				http.Error(w, err.Error(), 500)
				return
			}
			s.Close()
		}
	})
	assert.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
}

// Bypass mounted twice.
func TestNested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := middleware.Bypass(http.TimeoutHandler(middleware.Bypass(news(&hub)), 30*time.Second, "too late"))
		s := ssetest.Connect(t, h, get("/"))
		require.Equal(t, 200, s.Status())
		s.Quiet(time.Hour)
		say(t, &hub, "still there")
		require.Equal(t, "still there", string(s.Next().Data))
	})
}

// The late answer of a timeout sets headers while the stream copies them.
func TestHeaderRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(r *http.Request) (*fanfare.Grant, error) {
			time.Sleep(30 * time.Second)
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}}
		// As chi's Compress and http.Error do, a header is set with the late answer.
		late := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(lateHeaders{w}, r)
			})
		}
		chain := middleware.Bypass(late(http.TimeoutHandler(h, 30*time.Second, "too late")))
		for range 1000 {
			s := ssetest.Connect(t, chain, get("/"))
			_ = s.Status()
			s.Close()
		}
	})
}

// Gin's Context.Stream and others ask for it.
func TestCloseNotifier(t *testing.T) {
	ok := false
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		//lint:ignore SA1019 it is deprecated, and relied on
		_, ok = w.(http.CloseNotifier)
	})
	server := httptest.NewServer(middleware.Bypass(h))
	defer server.Close()
	_, err := http.Get(server.URL)
	require.NoError(t, err)
	require.True(t, ok)
}

// A request's Writer that was cut by Drain before NewWriter: the commit takes the cut's deadline away.
func TestCutBeforeCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{Logger: silent, Spread: -1}
		done := make(chan struct{})
		began := time.Now()
		var took time.Duration
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			time.Sleep(10 * time.Second) // longer than the drain's ctx
			began = time.Now()
			s, err := sse.NewWriter(w, r, &sse.Options{WriteTimeout: time.Hour})
			if err == nil {
				s.Send(sse.Event{Data: []byte("x")})
				s.Close()
			}
			took = time.Since(began)
		})
		// A client that does not read.
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			time.Sleep(time.Second)
			drain.Shutdown(ctx)
		}()
		l := memnet.Listen()
		srv := &http.Server{Handler: drain.Handler(h), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		go srv.Serve(l)
		defer srv.Close()
		conn, err := l.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		<-done
		require.Less(t, took, time.Minute, "it was cut")
	})
}

var _ = fmt.Sprint

type lateHeaders struct{ http.ResponseWriter }

func (l lateHeaders) WriteHeader(status int) {
	for i := range 10 {
		l.Header().Set(fmt.Sprintf("X-%d", i), "late")
	}
	l.ResponseWriter.WriteHeader(status)
}

// Whoever cuts a write that waits for the client waits for that write.
func TestDeadlineCutsWrite(t *testing.T) {
	for name, direct := range map[string]func(http.Handler) http.Handler{
		"without": func(h http.Handler) http.Handler { return h },
		"with":    middleware.Bypass,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				done := make(chan error, 1)
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					time.AfterFunc(time.Second, func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Now()) })
					_, err := w.Write(make([]byte, 1<<20))
					done <- err
				})
				l := memnet.Listen()
				server := &http.Server{Handler: direct(h), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
				go server.Serve(l)
				defer server.Close()
				conn, err := l.DialContext(t.Context(), "", "")
				require.NoError(t, err)
				defer conn.Close()
				_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				require.NoError(t, err)
				select {
				case err := <-done:
					require.Error(t, err)
				case <-time.After(time.Minute):
					t.Error("the write still waits")
				}
			})
		})
	}
}
