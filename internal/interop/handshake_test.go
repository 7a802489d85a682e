package interop_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/NYTimes/gziphandler"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// hidingCompressors are mounted around a WebSocket, without Bypass.
var hidingCompressors = []struct {
	name  string
	mount func(http.Handler) http.Handler
	keeps string // the wrapper that keeps the status of the handshake; "" if none does
}{
	{"echo Gzip", func(h http.Handler) http.Handler {
		router := echo.New()
		router.Use(echomiddleware.Gzip())
		router.GET("/", echo.WrapHandler(h))
		return router
	}, "*middleware.gzipResponseWriter"},
	{"echo Gzip of long responses", func(h http.Handler) http.Handler {
		router := echo.New()
		router.Use(echomiddleware.Recover(), echomiddleware.GzipWithConfig(echomiddleware.GzipConfig{MinLength: 1000}))
		router.GET("/", echo.WrapHandler(h))
		return router
	}, "*middleware.gzipResponseWriter"},
	{"echo", func(h http.Handler) http.Handler {
		router := echo.New()
		router.GET("/", echo.WrapHandler(h))
		return router
	}, ""},
	{"NYTimes/gziphandler", gziphandler.GzipHandler, "gziphandler.GzipResponseWriterWithCloseNotify"},
	{"chi Compress", func(h http.Handler) http.Handler {
		router := chi.NewRouter()
		router.Use(chimiddleware.Compress(5))
		router.Method(http.MethodGet, "/", h)
		return router
	}, ""},
	{"gin", func(h http.Handler) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		router := gin.New()
		router.GET("/", gin.WrapH(h))
		return router
	}, ""},
	{"gin, with a wrapper within", func(h http.Handler) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		router := gin.New()
		router.GET("/", gin.WrapH(chimiddleware.RequestLogger(&chimiddleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0)})(h)))
		return router
	}, ""},
}

// A browser accepts gzip. Its WebSocket opens below a compressor that keeps the status of
// a response until the body begins, and wstest.Diagnose names the wrapper.
func TestWebSocketsBelowCompressors(t *testing.T) {
	for _, compressor := range hidingCompressors {
		for detach, way := range detached {
			t.Run(compressor.name+"/"+way, func(t *testing.T) {
				hub := &broadcast.Hub{Logger: silent}
				defer hub.Close()
				h := &ws.Handler{Broadcaster: hub, Topics: []string{"prices"}, Detach: detach, Logger: silent}
				w := through(t, compressor.mount(h))
				client, done := ownTransport()
				defer done()
				conn, err := ws.Dial(t.Context(), w.url+"/", &ws.DialOptions{HTTPClient: client, Header: http.Header{"Accept-Encoding": {"gzip, deflate, br, zstd"}}})
				require.NoError(t, err)
				defer conn.CloseNow()
				_, ready, err := conn.Read(t.Context())
				require.NoError(t, err)
				require.Contains(t, string(ready), `{"ready":`)
				id, err := hub.Publish(t.Context(), tick("1"))
				require.NoError(t, err)
				_, got, err := conn.Read(t.Context())
				require.NoError(t, err)
				require.Equal(t, envelope(id, "1"), string(got))
				require.NoError(t, conn.Close(ws.StatusNormalClosure, ""))

				request := httptest.NewRequest(http.MethodGet, "/", nil)
				err = wstest.Diagnose(compressor.mount(h), request)
				require.NoError(t, wstest.Diagnose(middleware.Bypass(compressor.mount(h)), request))
				if compressor.keeps == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, compressor.keeps+" keeps the status 101")
			})
		}
	}
}
