package sse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A stream of one topic. The example sends the last event ID by hand, as an EventSource does
// by itself when it reconnects.
func ExampleHandler() {
	var hub broadcast.Hub
	server := httptest.NewServer(&sse.Handler{Broadcaster: &hub, Topics: []string{"news"}})
	defer server.Close()

	listen := func(lastEventID string) (*sse.Reader, io.Closer) {
		request, _ := http.NewRequest("GET", server.URL, nil)
		request.Header.Set("Last-Event-ID", lastEventID)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			panic(err)
		}
		return sse.NewReader(response.Body), response.Body
	}
	publish := func(text string) {
		hub.Publish(context.Background(), broadcast.Message{Topic: "news", Type: "headline", Data: []byte(text)})
	}

	stream, cut := listen("")
	publish("It rains")
	event, _ := stream.Read()
	fmt.Println(event.Type, string(event.Data))
	cut.Close()

	publish("It still rains") // while no client is connected
	stream, cut = listen(event.ID)
	defer cut.Close()
	event, _ = stream.Read()
	fmt.Println(event.Type, string(event.Data))
	// Output:
	// headline It rains
	// headline It still rains
}

// Grant decides for each client what it gets, or refuses it.
func ExampleHandler_grant() {
	var hub broadcast.Hub
	handler := &sse.Handler{
		Broadcaster: &hub,
		Grant: func(r *http.Request) (*fanfare.Grant, error) {
			user, _, ok := r.BasicAuth()
			if !ok {
				return nil, &fanfare.Refusal{Status: http.StatusUnauthorized, Err: errors.New("no credentials")}
			}
			return &fanfare.Grant{
				Topics: []string{"lobby", "user/" + user},
				Last:   10,                                                        // a fresh client begins with the last ten messages
				Filter: func(m *broadcast.Message) bool { return m.From != user }, // not its own messages
			}, nil
		},
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/events", nil))
	fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	// Output: 401 Unauthorized
}

// The tokens of an answer, as the response to a POST.
func ExampleNewWriter() {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prompt, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
		if err != nil {
			http.Error(w, "the prompt is too long", http.StatusRequestEntityTooLarge)
			return
		}
		stream, err := sse.NewWriter(w, r, nil)
		if err != nil {
			http.Error(w, "no stream", http.StatusInternalServerError)
			return
		}
		defer stream.Close()
		for word := range strings.FieldsSeq(string(prompt)) {
			if stream.Send(sse.Event{Type: "token", Data: []byte(word)}) != nil {
				return // the client has left
			}
		}
		stream.SendJSON("done", map[string]int{"tokens": len(strings.Fields(string(prompt)))})
	})
	server := httptest.NewServer(answer)
	defer server.Close()

	response, err := http.Post(server.URL, "text/plain", strings.NewReader("to be or not"))
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	for event, err := range sse.NewReader(response.Body).All() {
		fmt.Println(event.Type, string(event.Data), err)
	}
	// Output:
	// token to <nil>
	// token be <nil>
	// token or <nil>
	// token not <nil>
	// done {"tokens":4} <nil>
}

// With ConnContext, a client that vanished without a word is found out within
// Heartbeat and WriteTimeout.
func ExampleConnContext() {
	server := &http.Server{
		Addr:        "localhost:8080",
		Handler:     &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}},
		ConnContext: sse.ConnContext,
	}
	fmt.Println(server.ConnContext != nil)
	// Output: true
}
