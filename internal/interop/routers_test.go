package interop_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/gorilla/mux"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// short is the timeout of the routers' own middleware, which streams must outlive.
const short = 2 * time.Second

// mounted is what is mounted on a router: two handlers, and two middlewares of the standard
// form.
type mounted struct {
	drain, limit   func(http.Handler) http.Handler
	events, socket http.Handler
}

// routers mount it as their users do, most of them inside of middleware that breaks streams.
var routers = []struct {
	name  string
	mount func(mounted) http.Handler
}{
	{"ServeMux", func(m mounted) http.Handler {
		router := http.NewServeMux()
		router.Handle("GET /events/{room}", m.drain(m.limit(m.events)))
		router.Handle("GET /ws/{room}", m.drain(m.limit(m.socket)))
		return middleware.Bypass(http.TimeoutHandler(router, short, "too late"))
	}},
	{"chi", func(m mounted) http.Handler {
		router := chi.NewRouter()
		router.Use(middleware.Bypass)
		router.Use(chimiddleware.RequestLogger(&chimiddleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0)}))
		router.Use(chimiddleware.Recoverer)
		router.Use(chimiddleware.Compress(5, "text/event-stream"))
		router.Use(chimiddleware.Timeout(short))
		router.Group(func(r chi.Router) {
			r.Use(m.drain, m.limit)
			r.Method(http.MethodGet, "/events/{room}", m.events)
			r.Method(http.MethodGet, "/ws/{room}", m.socket)
		})
		return router
	}},
	{"gin", func(m mounted) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		router := gin.New()
		router.Use(gin.LoggerWithWriter(io.Discard), gin.Recovery())
		router.Use(func(c *gin.Context) {
			ctx, cancel := context.WithTimeout(c.Request.Context(), short)
			defer cancel()
			c.Request = c.Request.WithContext(ctx)
			c.Next()
		})
		// gin accepts no middleware of the standard form, so it wraps the handlers.
		router.GET("/events/:room", gin.WrapH(m.drain(m.limit(m.events))))
		router.GET("/ws/:room", gin.WrapH(m.drain(m.limit(m.socket))))
		return middleware.Bypass(router)
	}},
	{"echo", func(m mounted) http.Handler {
		router := echo.New()
		router.Use(echo.WrapMiddleware(middleware.Bypass))
		router.Use(echomiddleware.RequestLoggerWithConfig(echomiddleware.RequestLoggerConfig{
			LogStatus: true, LogValuesFunc: func(echo.Context, echomiddleware.RequestLoggerValues) error { return nil },
		}))
		router.Use(echomiddleware.Recover(), echomiddleware.Gzip())
		router.Use(echomiddleware.ContextTimeout(short))
		streams := router.Group("", echo.WrapMiddleware(m.drain), echo.WrapMiddleware(m.limit))
		streams.GET("/events/:room", echo.WrapHandler(m.events))
		streams.GET("/ws/:room", echo.WrapHandler(m.socket))
		return router
	}},
	{"gorilla", func(m mounted) http.Handler {
		router := mux.NewRouter()
		router.Use(middleware.Bypass, func(next http.Handler) http.Handler {
			return http.TimeoutHandler(next, short, "too late")
		}, m.drain, m.limit)
		router.Handle("/events/{room}", m.events).Methods(http.MethodGet)
		router.Handle("/ws/{room}", m.socket).Methods(http.MethodGet)
		return router
	}},
}

// Streams work on each router with Bypass, outlive its timeouts, and are drained and limited.
func TestRouters(t *testing.T) {
	for _, router := range routers {
		for detach, way := range detached {
			t.Run(router.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				hub := &broadcast.Hub{Logger: silent}
				defer hub.Close()
				drain := &middleware.Drain{Spread: -1, Plain: true, Logger: silent}
				limit := &middleware.Limit{Total: 2, Plain: true, Logger: silent}
				late := make(chan struct{}, 3) // one value for each request whose context the router has ended
				watched := func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if _, bounded := r.Context().Deadline(); bounded {
							context.AfterFunc(r.Context(), func() { late <- struct{}{} })
						}
						next.ServeHTTP(w, r)
					})
				}
				w := through(t, router.mount(mounted{
					drain:  func(next http.Handler) http.Handler { return drain.Handler(watched(next)) },
					limit:  limit.Handler,
					events: &sse.Handler{Broadcaster: hub, Topics: []string{"prices"}, Detach: detach, Logger: silent},
					socket: &ws.Handler{Broadcaster: hub, Topics: []string{"prices"}, Detach: detach, Logger: silent},
				}))
				client, done := ownTransport()
				defer done()

				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/events/1", nil)
				require.NoError(t, err)
				r.Header.Set("Accept-Encoding", "gzip")
				response, err := client.Do(r)
				require.NoError(t, err)
				defer response.Body.Close()
				require.Equal(t, http.StatusOK, response.StatusCode)
				require.Empty(t, response.Header.Get("Content-Encoding"))
				stream := sse.NewReader(response.Body)
				conn, err := ws.Dial(t.Context(), w.url+"/ws/1", &ws.DialOptions{HTTPClient: client})
				require.NoError(t, err)
				defer conn.CloseNow()
				_, ready, err := conn.Read(t.Context())
				require.NoError(t, err)
				require.Contains(t, string(ready), `{"ready":`)

				get := func() int {
					again, err := client.Get(w.url + "/events/1")
					require.NoError(t, err)
					again.Body.Close()
					return again.StatusCode
				}
				require.Equal(t, http.StatusServiceUnavailable, get(), "Limit allows two")

				both := func(data string) {
					t.Helper()
					id, err := hub.Publish(t.Context(), tick(data))
					require.NoError(t, err)
					e, err := stream.Read()
					require.NoError(t, err)
					require.Equal(t, sse.Event{ID: id.String(), Type: "tick", Data: []byte(data)}, e)
					_, got, err := conn.Read(t.Context())
					require.NoError(t, err)
					require.Equal(t, envelope(id, data), string(got))
				}
				both("early")
				for range 3 { // the refused request's too
					next(t, late)
				}
				both("after the router's timeout")

				drained := make(chan error, 1) // in the background: the client must read to answer the close frame
				go func() { drained <- drain.Shutdown(t.Context()) }()
				_, err = stream.Read()
				require.ErrorIs(t, err, io.EOF)
				_, _, err = conn.Read(t.Context())
				require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
				require.NoError(t, next(t, drained))
				require.Equal(t, http.StatusServiceUnavailable, get(), "Drain refuses")
				require.Zero(t, hub.Stats().Subscriptions)
			})
		}
	}
}
