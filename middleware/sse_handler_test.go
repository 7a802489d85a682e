package middleware_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A sse.Handler logs a refusal with 405 or 406 as any other, once.
func TestHandlerLogsEachRefusal(t *testing.T) {
	var hub broadcast.Hub
	for name, r := range map[string]*http.Request{
		"405": httptest.NewRequest("DELETE", "/", nil),
		"406": func() *http.Request { r := get("/"); r.Header.Set("Accept", "text/html"); return r }(),
	} {
		var log bytes.Buffer
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		h.ServeHTTP(httptest.NewRecorder(), r)
		assert.Equal(t, 1, strings.Count(log.String(), "\n"), name)
	}
}

// panics is a wrapper whose WriteHeader panics.
type panics struct{ http.ResponseWriter }

func (panics) WriteHeader(int) { panic("somebody's WriteHeader") }

func (panics) Flush() {}

// A panic of a wrapper's WriteHeader leaves no subscription.
func TestPanicInWriteHeader(t *testing.T) {
	var hub broadcast.Hub
	func() {
		defer func() { recover() }()
		news(&hub).ServeHTTP(panics{httptest.NewRecorder()}, get("/"))
	}()
	require.Zero(t, hub.Stats().Subscriptions)
}
