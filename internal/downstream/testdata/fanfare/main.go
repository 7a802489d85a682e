// A program that uses the root module: it serves one message over an event stream.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

func main() {
	var hub broadcast.Hub
	if _, err := hub.Publish(context.Background(), broadcast.Message{Topic: "news", Data: []byte("hello")}); err != nil {
		log.Fatal(err)
	}
	handler := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"news"}, Last: 1}, nil
	}}

	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/events?poll=1", nil))
	event, err := sse.NewReader(answer.Body).Read()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(event.Data))
}
