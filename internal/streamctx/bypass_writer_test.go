package streamctx_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// server is a server's writer that counts what reaches it, and on which hooks may wait.
type server struct {
	*httptest.ResponseRecorder
	deadlines, pushes int
	writing           func() // if set, called by Write
	informing         func() // if set, called by WriteHeader for 1xx
	settingDeadline   func() // if set, called by SetWriteDeadline
}

func (s *server) Write(b []byte) (int, error) {
	if s.writing != nil {
		s.writing()
	}
	return s.ResponseRecorder.Write(b)
}

func (s *server) WriteHeader(status int) {
	if status < 200 && s.informing != nil {
		s.informing()
	}
	if status >= 200 {
		s.ResponseRecorder.WriteHeader(status)
	}
}

func (s *server) SetReadDeadline(time.Time) error { s.deadlines++; return nil }
func (s *server) SetWriteDeadline(time.Time) error {
	s.deadlines++
	if s.settingDeadline != nil {
		s.settingDeadline()
	}
	return nil
}
func (s *server) EnableFullDuplex() error              { s.deadlines++; return nil }
func (s *server) Push(string, *http.PushOptions) error { s.pushes++; return nil }
func (s *server) CloseNotify() <-chan bool             { return nil }
func (s *server) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("this server has no connection")
}

// useAll calls each method of a writer once.
func useAll(t *testing.T, w http.ResponseWriter) {
	control := http.NewResponseController(w)
	w.Header().Set("X-Late", "1")
	w.WriteHeader(http.StatusEarlyHints)
	w.WriteHeader(http.StatusServiceUnavailable)
	n, err := w.Write([]byte("late"))
	assert.NoError(t, err)
	assert.Equal(t, 4, n)
	copied, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("late")})
	assert.NoError(t, err)
	assert.EqualValues(t, 4, copied)
	name := filepath.Join(t.TempDir(), "late.txt")
	assert.NoError(t, os.WriteFile(name, []byte("late"), 0o600))
	file, err := os.Open(name)
	assert.NoError(t, err)
	defer file.Close()
	copied, err = io.Copy(w, file)
	assert.NoError(t, err)
	assert.EqualValues(t, 4, copied)
	assert.NoError(t, control.Flush())
	assert.NoError(t, control.SetReadDeadline(time.Now()))
	assert.NoError(t, control.SetWriteDeadline(time.Now()))
	assert.NoError(t, control.EnableFullDuplex())
	assert.ErrorIs(t, w.(http.Pusher).Push("/a", nil), http.ErrNotSupported)
	_, _, err = control.Hijack()
	assert.ErrorIs(t, err, http.ErrHijacked)
}

// Whatever the handlers do once a stream has claimed the writer, or the request has
// ended, is dropped without an error.
func TestLateWritesAreDropped(t *testing.T) {
	t.Run("after a claim", func(t *testing.T) {
		s := &server{ResponseRecorder: httptest.NewRecorder()}
		streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claim := streamctx.ClaimOf(w, r)
			defer claim.Leave()
			assert.NoError(t, claim.Take())
			io.WriteString(claim.Writer, "the stream")
			useAll(t, w)
			io.WriteString(claim.Writer, " goes on")
		})).ServeHTTP(s, get())
		assert.Equal(t, "the stream goes on", s.Body.String())
		assert.Equal(t, 200, s.Code)
		assert.Empty(t, s.Header().Get("X-Late"))
		assert.False(t, s.Flushed)
		assert.Zero(t, s.deadlines+s.pushes)
	})
	t.Run("after the end", func(t *testing.T) {
		s := &server{ResponseRecorder: httptest.NewRecorder()}
		var late http.ResponseWriter
		streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { late = w })).ServeHTTP(s, get())
		useAll(t, late)
		assert.Empty(t, s.Body.String())
		assert.False(t, s.Flushed)
		assert.Zero(t, s.deadlines+s.pushes)
	})
}

// What the server's writer can do the handlers can do until a stream claims it.
func TestEarlyCallsReachTheServer(t *testing.T) {
	s := &server{ResponseRecorder: httptest.NewRecorder()}
	streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		assert.NoError(t, control.SetReadDeadline(time.Now()))
		assert.NoError(t, control.SetWriteDeadline(time.Now()))
		assert.NoError(t, control.EnableFullDuplex())
		assert.NoError(t, w.(http.Pusher).Push("/a", nil))
		_, _, err := control.Hijack()
		assert.ErrorContains(t, err, "no connection")
	})).ServeHTTP(s, get())
	assert.Equal(t, 3, s.deadlines)
	assert.Equal(t, 1, s.pushes)
}

// A stream that claims the writer waits for a call of it that is in progress, and for
// nothing that comes later.
func TestTakeWaitsForCallsInProgress(t *testing.T) {
	for name, call := range map[string]func(w http.ResponseWriter){
		"a deadline":                func(w http.ResponseWriter) { _ = http.NewResponseController(w).SetWriteDeadline(time.Now()) },
		"an informational response": func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var busy atomic.Bool
				wait := func() {
					busy.Store(true)
					time.Sleep(time.Second)
					busy.Store(false)
				}
				s := &server{ResponseRecorder: httptest.NewRecorder(), informing: wait, settingDeadline: wait}
				streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var calling sync.WaitGroup
					defer calling.Wait()
					calling.Go(func() { call(w) })
					synctest.Wait()
					assert.True(t, busy.Load())
					claim := streamctx.ClaimOf(w, r)
					defer claim.Leave()
					assert.NoError(t, claim.Take())
					assert.False(t, busy.Load())
				})).ServeHTTP(s, get())
			})
		})
	}
}

// Deadlines can be set, and Take fails, at once while a write or an informational
// response waits for the client.
func TestNothingWaitsForASlowClient(t *testing.T) {
	for name, call := range map[string]func(w http.ResponseWriter){
		"a write":                   func(w http.ResponseWriter) { w.Write([]byte("x")) },
		"an informational response": func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wait := func() { time.Sleep(time.Hour) }
				s := &server{ResponseRecorder: httptest.NewRecorder(), informing: wait, writing: wait}
				streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var calling sync.WaitGroup
					defer calling.Wait()
					calling.Go(func() { call(w) })
					synctest.Wait()
					start := time.Now()
					assert.NoError(t, http.NewResponseController(w).SetWriteDeadline(time.Now()))
					_ = w.Header()
					claim := streamctx.ClaimOf(w, r)
					defer claim.Leave()
					if name == "a write" {
						assert.ErrorContains(t, claim.Take(), "answered already")
					}
					assert.Zero(t, time.Since(start))
				})).ServeHTTP(s, get())
				assert.Equal(t, 1, s.deadlines)
			})
		})
	}
}

// A Bypass does not return while the server's writer is in use.
func TestBypassWaitsForALateWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writing := false
		s := &server{ResponseRecorder: httptest.NewRecorder(), writing: func() {
			writing = true
			time.Sleep(time.Second)
			writing = false
		}}
		streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			go w.Write([]byte("from another goroutine"))
			synctest.Wait()
		})).ServeHTTP(s, get())
		assert.False(t, writing)
		assert.Equal(t, "from another goroutine", s.Body.String())
	})
}

// A deadline cuts a write that waits for the client, below a Bypass as without one.
func TestDeadlineCutsAWrite(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"without": func(h http.Handler) http.Handler { return h },
		"with":    streamctx.Bypass,
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
				server := &http.Server{Handler: wrap(h), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
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

// A reader that is copied to the response may set deadlines and flush while it is read.
func TestReaderMayUseTheWriter(t *testing.T) {
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
			}{{"without", h}, {"with", streamctx.Bypass(h)}} {
				server := httptest.NewServer(test.h)
				client := &http.Client{Timeout: 10 * time.Second}
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

// A Hijack that the server does not support leaves the request unanswered: its header
// can still be set, and it can become a stream.
func TestUnsupportedHijack(t *testing.T) {
	serve := func(h http.HandlerFunc) *http.Response {
		server := httptest.NewUnstartedServer(streamctx.Bypass(h))
		server.EnableHTTP2 = true // which has no Hijack
		server.StartTLS()
		t.Cleanup(server.Close)
		response, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
	response := serve(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
			w.Header().Set("X-Why", "no hijack")
			http.Error(w, "no websockets here", http.StatusNotImplemented)
		}
	})
	assert.Equal(t, 501, response.StatusCode)
	assert.Equal(t, "no hijack", response.Header.Get("X-Why"))

	response = serve(func(w http.ResponseWriter, r *http.Request) {
		_, _, err := http.NewResponseController(w).Hijack()
		assert.Error(t, err)
		claim := streamctx.ClaimOf(w, r)
		defer claim.Leave()
		if assert.NoError(t, claim.Take()) {
			claim.Writer.Header().Set("Content-Type", "text/event-stream")
			claim.Writer.WriteHeader(200)
		}
	})
	assert.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
}

// The writer is an http.CloseNotifier, which gin's Context.Stream and others need, and
// passes on the server's notice.
func TestCloseNotifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan bool, 1)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			//lint:ignore SA1019 it is deprecated, and some frameworks still need it
			closed <- <-w.(http.CloseNotifier).CloseNotify()
		})
		server := memnet.NewServer(streamctx.Bypass(h), get(), pipes{})
		memnet.Serve(t, server)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := server.Client().Do(memnet.ClientRequest(ctx, get()))
		require.Error(t, err)
		require.True(t, <-closed)
	})
	w := httptest.NewRecorder() // no CloseNotifier itself
	streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		//lint:ignore SA1019 it is deprecated, and some frameworks still need it
		assert.NotNil(t, w.(http.CloseNotifier).CloseNotify())
	})).ServeHTTP(w, get())
}

type pipes struct{}

func (pipes) Pipe() (client, server net.Conn) { return net.Pipe() }
