package wstest_test

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
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// example takes the place of a test's *testing.T, which an example does not have.
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

func ExampleDial() {
	t := new(example) // in a test: its *testing.T
	defer t.end()

	var hub broadcast.Hub
	handler := &ws.Handler{Broadcaster: &hub, Topics: []string{"prices"}, Encode: ws.Raw}
	conn := wstest.Dial(t, handler, httptest.NewRequest("GET", "/prices", nil))
	hub.Publish(context.Background(), broadcast.Message{Topic: "prices", Data: []byte("42")})
	_, data, err := conn.Read(context.Background())
	fmt.Println(string(data), err)
	// Output: 42 <nil>
}

// Test code that is given a connection without a handler.
func ExamplePipe() {
	t := new(example) // in a test: its *testing.T
	defer t.end()

	greet := func(c *ws.Conn) error {
		return c.WriteJSON(context.Background(), map[string]string{"greeting": "hello"})
	}
	client, server := wstest.Pipe(t)
	fmt.Println(greet(server))
	var got struct{ Greeting string }
	fmt.Println(client.ReadJSON(context.Background(), &got), got.Greeting)
	// Output:
	// <nil>
	// <nil> hello
}

// The router has a timeout middleware, which would end each WebSocket.
func ExampleDiagnose() {
	router := chi.NewRouter()
	router.Use(middleware.RequestID, middleware.Recoverer)
	router.Use(middleware.Timeout(time.Minute))
	router.Method(http.MethodGet, "/prices", &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"prices"}})

	err := wstest.Diagnose(router, httptest.NewRequest("GET", "/prices", nil))
	fmt.Println(err)
	// Output:
	// wstest: the request's context ends after 1m0s, and the stream with it: a timeout middleware is the usual cause; mount the stream outside of it, or middleware.Bypass outside of both
}
