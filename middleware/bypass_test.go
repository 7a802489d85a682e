package middleware_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	chi "github.com/go-chi/chi/v5/middleware"
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

var silent = slog.New(slog.DiscardHandler)

func get(target string) *http.Request { return httptest.NewRequest("GET", target, nil) }

func say(t testing.TB, hub *broadcast.Hub, text string) {
	t.Helper()
	_, err := hub.Publish(context.Background(), broadcast.Message{Topic: "news", Data: []byte(text)})
	require.NoError(t, err)
}

func news(hub *broadcast.Hub) *sse.Handler {
	return &sse.Handler{Broadcaster: hub, Topics: []string{"news"}, Logger: silent}
}

// chains are what Bypass leads past.
var chains = map[string]func(http.Handler) http.Handler{
	"http.TimeoutHandler": func(next http.Handler) http.Handler { return http.TimeoutHandler(next, 30*time.Second, "too late") },
	"chi Timeout":         chi.Timeout(30 * time.Second),
	"both, and compression": func(next http.Handler) http.Handler {
		return chi.Compress(5, "text/*")(http.TimeoutHandler(chi.Timeout(20*time.Second)(next), 30*time.Second, "too late"))
	},
}

// TestGate has a stream outlive a timeout that answers in its place, and another
// request on the same connection: no byte of one gets into the other.
func TestGate(t *testing.T) {
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
						say(t, &hub, fmt.Sprint(i))
						e, err := events.Read()
						require.NoError(t, err)
						require.Equal(t, fmt.Sprint(i), string(e.Data))
					}
					if round == 1 {
						require.NoError(t, hub.Close())
						_, err = events.Read()
						require.Equal(t, io.EOF, err, "the end of a response, and nothing before it")
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
					// The client leaves, which the stream hears of.
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

// Under HTTP/2 as well.
func TestDirectOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		r := get("/")
		r.ProtoMajor = 2
		s := ssetest.Connect(t, middleware.Bypass(chains["http.TimeoutHandler"](news(&hub))), r)
		s.Quiet(time.Hour)
		say(t, &hub, "still there")
		require.Equal(t, "still there", string(s.Next().Data))
	})
}

func TestDirectWebSocket(t *testing.T) {
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
					say(t, &hub, "still there")
					_, data, err := c.Read(t.Context())
					require.NoError(t, err)
					require.Equal(t, "still there", string(data))
					require.NoError(t, c.Close(ws.StatusNormalClosure, ""))
				})
			})
		}
	}
}

// TestDirectWriter has tokens that take longer than a timeout allows.
func TestDirectWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Model", "small")
			s, err := sse.NewWriter(w, r, nil)
			if !assert.NoError(t, err) {
				return
			}
			defer s.Close()
			for range 3 {
				time.Sleep(25 * time.Second)
				if !assert.NoError(t, s.Send(sse.Event{Data: []byte("token")})) {
					return
				}
			}
		})
		s := ssetest.Connect(t, middleware.Bypass(chains["http.TimeoutHandler"](tokens)), get("/"))
		require.Equal(t, "small", s.Header().Get("X-Model"), "what its own handler has set")
		n := 0
		for range s.All() {
			n++
		}
		require.Equal(t, 3, n)
		require.NoError(t, s.End())
	})
}

// TestDirectForgottenWriter has a handler that returns without Close: its client, or
// the server, ends it.
func TestDirectForgottenWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writers := make(chan *sse.Writer, 1)
		forgets := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			assert.NoError(t, err)
			writers <- s
		})
		s := ssetest.Connect(t, middleware.Bypass(forgets), get("/"))
		w := <-writers
		s.Close()
		synctest.Wait()
		require.ErrorIs(t, w.Send(sse.Event{Data: []byte("x")}), context.Canceled)
		require.ErrorIs(t, w.Close(), context.Canceled)
	})
}

// TestDirectTooLate has a timeout that answers while the stream is still being
// granted.
func TestDirectTooLate(t *testing.T) {
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

// TestDirectHeader has a stream keep what those before it have set, wherever they did.
func TestDirectHeader(t *testing.T) {
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

// TestDirectContext has a stream see the values of the contexts in between.
func TestDirectContext(t *testing.T) {
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

// TestDirectIsNotThere has requests that do not become streams.
func TestDirectIsNotThere(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		check   func(t *testing.T, r *http.Response, body string)
	}{
		{"nothing is said", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-A", "1") }, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 200, r.StatusCode)
			require.Equal(t, "1", r.Header.Get("X-A"))
		}},
		{"status and body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-A", "1")
			w.WriteHeader(418)
			w.Header().Set("X-Late", "1")
			io.WriteString(w, "teapot")
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 418, r.StatusCode)
			require.Equal(t, "teapot", body)
			require.Equal(t, "1", r.Header.Get("X-A"))
			require.Empty(t, r.Header.Get("X-Late"))
		}},
		{"copying", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, strings.NewReader("copied"))
		}, func(t *testing.T, r *http.Response, body string) { require.Equal(t, "copied", body) }},
		{"flushing", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			io.WriteString(w, "b")
			assert.NoError(t, http.NewResponseController(w).Flush())
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, "ab", body)
			require.EqualValues(t, -1, r.ContentLength)
		}},
		{"trailers", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"X-More", "2")
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, "1", r.Trailer.Get("X-Sum"))
			require.Equal(t, "2", r.Trailer.Get("X-More"))
		}},
		{"deadlines", func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			assert.NoError(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, c.EnableFullDuplex())
			io.WriteString(w, "fine")
		}, func(t *testing.T, r *http.Response, body string) { require.Equal(t, "fine", body) }},
		{"hijacking", func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if assert.NoError(t, err) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				c.Close()
			}
		}, func(t *testing.T, r *http.Response, body string) { require.Equal(t, "ok", body) }},
		{"an early hint", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "then")
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 200, r.StatusCode)
			require.Equal(t, "then", body)
		}},
		{"a timeout", func(w http.ResponseWriter, r *http.Request) {
			chains["http.TimeoutHandler"](http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Minute) })).ServeHTTP(w, r)
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 503, r.StatusCode)
			require.Equal(t, "too late", body)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := memnet.NewServer(middleware.Bypass(test.handler), get("/"), pipes{})
				memnet.Serve(t, server)
				hints := 0
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					hints++
					assert.Equal(t, "</a>", h.Get("Link"))
					return nil
				}})
				response, err := server.Client().Do(memnet.ClientRequest(ctx, get("/")))
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				test.check(t, response, string(body))
				require.Equal(t, strings.Contains(test.name, "hint"), hints == 1)
				time.Sleep(time.Hour) // until all that was left behind has ended
			})
		})
	}
}

type pipes struct{}

func (pipes) Pipe() (client, server net.Conn) { return net.Pipe() }

// TestDirectPanics has handlers below panic, with a stream and without.
func TestDirectPanics(t *testing.T) {
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

// One request is one stream.
func TestDirectTwice(t *testing.T) {
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
		say(t, &hub, "once")
		require.Equal(t, "once", string(s.Next().Data))
		s.Quiet(time.Minute)
	})
}
