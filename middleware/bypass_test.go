package middleware_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	chi "github.com/go-chi/chi/v5/middleware"
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

// A stream outlives the timeouts in between, and their late answers. No byte of one
// response gets into the next on the same connection.
func TestBypassOutlivesTimeouts(t *testing.T) {
	for name, chain := range chains {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				mux := http.NewServeMux()
				h := news(&hub)
				h.Options.Heartbeat = -1
				mux.Handle("/news", h)
				mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Plain", "yes")
					io.WriteString(w, "plain")
				})
				listener := memnet.Listen()
				server := &http.Server{Handler: middleware.Bypass(chain(mux)), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
				go server.Serve(listener)
				defer server.Close()
				conn, err := listener.DialContext(t.Context(), "", "")
				require.NoError(t, err)
				defer conn.Close()
				r := bufio.NewReader(conn)

				for round := range 2 {
					_, err = io.WriteString(conn, "GET /news HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
					require.NoError(t, err)
					response, err := http.ReadResponse(r, nil)
					require.NoError(t, err)
					require.Equal(t, 200, response.StatusCode)
					require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
					require.Empty(t, response.Header.Get("Content-Encoding"))
					events := sse.NewReader(response.Body)
					for i := range 5 {
						time.Sleep(15 * time.Second)
						publish(t, &hub, fmt.Sprint(i))
						e, err := events.Read()
						require.NoError(t, err)
						require.Equal(t, fmt.Sprint(i), string(e.Data))
					}
					if round == 1 {
						require.NoError(t, hub.Close())
						_, err = events.Read()
						require.Equal(t, io.EOF, err, "the response ends, and nothing comes before that")
						_, err = io.WriteString(conn, "GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
						require.NoError(t, err)
						response, err = http.ReadResponse(r, nil)
						require.NoError(t, err)
						body, err := io.ReadAll(response.Body)
						require.NoError(t, err)
						require.Equal(t, "plain", string(body))
						require.Equal(t, "yes", response.Header.Get("X-Plain"))
						continue
					}
					// The client leaves, and its stream ends.
					conn.Close()
					synctest.Wait()
					require.Zero(t, hub.Stats().Subscriptions)
					conn, err = listener.DialContext(t.Context(), "", "")
					require.NoError(t, err)
					defer conn.Close()
					r = bufio.NewReader(conn)
				}
			})
		})
	}
}

// A stream over HTTP/2 outlives a timeout, too.
func TestBypassOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		r := get("/")
		r.ProtoMajor = 2
		s := ssetest.Connect(t, middleware.Bypass(chains["http.TimeoutHandler"](news(&hub))), r)
		s.Quiet(time.Hour)
		publish(t, &hub, "still there")
		require.Equal(t, "still there", string(s.Next().Data))
	})
}

// A WebSocket outlives the timeouts in between, of a Handler and of Upgrade.
func TestBypassWebSocket(t *testing.T) {
	for name, chain := range chains {
		for target, handler := range map[string]func(hub *broadcast.Hub) http.Handler{
			"ws.Handler": func(hub *broadcast.Hub) http.Handler {
				return &ws.Handler{Broadcaster: hub, Topics: []string{"news"}, Encode: ws.Raw, Logger: silent}
			},
			"ws.Upgrade": func(hub *broadcast.Hub) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c, err := ws.Upgrade(w, r, nil)
					if err != nil {
						return
					}
					defer c.Close(ws.StatusNormalClosure, "")
					c.CloseRead()
					for m, err := range broadcast.Messages(c.Context(), hub, broadcast.SubscribeOptions{Topics: []string{"news"}}) {
						if err != nil || c.Write(c.Context(), ws.Text, m.Data) != nil {
							return
						}
					}
				})
			},
		} {
			t.Run(name+"/"+target, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var hub broadcast.Hub
					c := wstest.Dial(t, middleware.Bypass(chain(handler(&hub))), get("/"))
					time.Sleep(time.Hour)
					publish(t, &hub, "still there")
					_, data, err := c.Read(t.Context())
					require.NoError(t, err)
					require.Equal(t, "still there", string(data))
					require.NoError(t, c.Close(ws.StatusNormalClosure, ""))
				})
			})
		}
	}
}

// A timeout that answers while the stream is being granted refuses it: nothing is
// subscribed after that.
func TestTimeoutDuringGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(r *http.Request) (*fanfare.Grant, error) {
			time.Sleep(time.Minute)
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}}
		s := ssetest.Connect(t, middleware.Bypass(chains["http.TimeoutHandler"](h)), get("/"))
		require.Equal(t, 503, s.Status())
		require.NoError(t, s.End())
		time.Sleep(time.Hour)
		require.Zero(t, hub.Stats().Subscriptions)
	})
}

// A stream has the header that the middleware has set, outside and inside of a wrapper,
// without the Content-Length.
func TestBypassKeepsTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		outer := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Outer", "1")
				w.Header().Set("X-Both", "outer")
				next.ServeHTTP(w, r)
			})
		}
		inner := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Inner", "1")
				w.Header().Set("X-Both", "inner")
				w.Header().Set("Content-Length", "7")
				next.ServeHTTP(w, r)
			})
		}
		s := ssetest.Connect(t, middleware.Bypass(outer(chains["http.TimeoutHandler"](inner(news(&hub))))), get("/"))
		require.Equal(t, []string{"1", "1", "inner", ""}, []string{s.Header().Get("X-Outer"), s.Header().Get("X-Inner"),
			s.Header().Get("X-Both"), s.Header().Get("Content-Length")})
	})
}

// A late answer may set its header while the stream begins.
func TestHeaderOfALateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(r *http.Request) (*fanfare.Grant, error) {
			time.Sleep(30 * time.Second)
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}}
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

// lateHeaders sets headers with the status, as chi's Compress and http.Error do.
type lateHeaders struct{ http.ResponseWriter }

func (l lateHeaders) WriteHeader(status int) {
	for i := range 10 {
		l.Header().Set(fmt.Sprintf("X-%d", i), "late")
	}
	l.ResponseWriter.WriteHeader(status)
}

// A stream has the values of the contexts in between, and ends when its client leaves.
func TestBypassKeepsTheContext(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		user := make(chan any, 1)
		left := make(chan struct{})
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(r *http.Request) (*fanfare.Grant, error) {
			user <- r.Context().Value(key{})
			context.AfterFunc(r.Context(), func() { close(left) })
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}}
		login := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "ann")))
		})
		s := ssetest.Connect(t, middleware.Bypass(chains["http.TimeoutHandler"](login)), get("/"))
		require.Equal(t, "ann", <-user)
		s.Quiet(time.Minute)
		s.Close()
		<-left
	})
}

// A panic of a handler reaches the middleware outside of Bypass, and ends a stream that
// runs beside it.
func TestBypassPanics(t *testing.T) {
	t.Run("without a stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("before anything") })
			server := memnet.NewServer(chi.Recoverer(middleware.Bypass(h)), get("/"), pipes{})
			memnet.Serve(t, server)
			response, err := server.Client().Do(memnet.ClientRequest(t.Context(), get("/")))
			require.NoError(t, err)
			response.Body.Close()
			require.Equal(t, 500, response.StatusCode)
		})
	})
	t.Run("beside a stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			var running sync.WaitGroup
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				running.Go(func() { news(&hub).ServeHTTP(w, r) })
				time.Sleep(time.Second)
				panic(http.ErrAbortHandler)
			})
			s := ssetest.Connect(t, middleware.Bypass(h), get("/"))
			time.Sleep(time.Minute)
			require.Error(t, s.End())
			running.Wait()
			require.Zero(t, hub.Stats().Subscriptions)
		})
	})
}

// A request becomes one stream at most.
func TestOneStreamForEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var both sync.WaitGroup
			both.Go(func() { news(&hub).ServeHTTP(w, r) })
			time.Sleep(time.Second)
			news(&hub).ServeHTTP(w, r)
			both.Wait()
		})
		s := ssetest.Connect(t, middleware.Bypass(h), get("/"))
		time.Sleep(time.Minute)
		publish(t, &hub, "once")
		require.Equal(t, "once", string(s.Next().Data))
		s.Quiet(time.Minute)
	})
}

// The inner one of two Bypasses does nothing.
func TestBypassTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := middleware.Bypass(http.TimeoutHandler(middleware.Bypass(news(&hub)), 30*time.Second, "too late"))
		s := ssetest.Connect(t, h, get("/"))
		require.Equal(t, 200, s.Status())
		s.Quiet(time.Hour)
		publish(t, &hub, "still there")
		require.Equal(t, "still there", string(s.Next().Data))
	})
}

// The connection of a stream that has ended serves the next request, after pauses that
// are longer than any deadline of the stream.
func TestBypassKeepsTheConnection(t *testing.T) {
	for name, makeHandler := range map[string]func() http.Handler{
		"writer": func() http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, nil)
				if err != nil {
					return
				}
				defer s.Close()
				time.Sleep(50 * time.Second)
				s.Send(sse.Event{Data: []byte("x")})
			})
		},
		"handler": func() http.Handler {
			return &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}, Options: sse.Options{MaxAge: time.Minute}, Logger: silent}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := memnet.Listen()
				server := &http.Server{Handler: middleware.Bypass(http.TimeoutHandler(makeHandler(), 30*time.Second, "late"))}
				go server.Serve(l)
				defer server.Close()
				conn, err := l.DialContext(t.Context(), "", "")
				require.NoError(t, err)
				defer conn.Close()
				r := bufio.NewReader(conn)
				for range 3 {
					method := map[string]string{"writer": "POST", "handler": "GET"}[name]
					_, err = io.WriteString(conn, method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
					require.NoError(t, err)
					response, err := http.ReadResponse(r, nil)
					require.NoError(t, err)
					require.Equal(t, 200, response.StatusCode)
					b, err := io.ReadAll(response.Body)
					require.NoError(t, err)
					require.NotContains(t, string(b), "late")
					time.Sleep(time.Minute)
				}
			})
		})
	}
}
