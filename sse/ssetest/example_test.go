package ssetest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// example replaces the *testing.T of a test, which an example does not have.
type example struct {
	testing.TB
	cleanups []func()
}

func (e *example) Helper()          {}
func (e *example) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }
func (e *example) end() {
	for i := range e.cleanups {
		e.cleanups[len(e.cleanups)-1-i]()
	}
}

// A client gets a message, leaves, and resumes with what it missed.
func ExampleConnect() {
	t := new(example) // in a test: its *testing.T
	defer t.end()

	var hub broadcast.Hub
	handler := &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}}
	publish := func(text string) {
		hub.Publish(context.Background(), broadcast.Message{Topic: "news", Data: []byte(text)})
	}

	stream := ssetest.Connect(t, handler, httptest.NewRequest("GET", "/news", nil))
	fmt.Println(stream.Status(), stream.Header().Get("Content-Type"))
	publish("It rains")
	fmt.Println(string(stream.Next().Data))

	stream.Close()
	publish("It still rains")
	stream.Reconnect()
	fmt.Println(string(stream.Next().Data))
	stream.Quiet(10 * time.Millisecond)
	// Output:
	// 200 text/event-stream
	// It rains
	// It still rains
}

// A router with a middleware that ends streams.
func ExampleDiagnose() {
	router := chi.NewRouter()
	router.Use(middleware.RequestID, middleware.Recoverer)
	router.Use(middleware.Timeout(time.Minute))
	router.Method(http.MethodGet, "/news", &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}})

	err := ssetest.Diagnose(router, httptest.NewRequest("GET", "/news", nil))
	fmt.Println(err)
	// Output:
	// ssetest: the request's context ends after 1m0s, and the stream with it: a timeout middleware is the usual cause; mount the stream outside of it, or middleware.Bypass outside of both
}
