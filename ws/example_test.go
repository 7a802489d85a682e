package ws_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

func ExampleHandler() {
	var hub broadcast.Hub
	server := httptest.NewServer(&ws.Handler{
		Broadcaster: &hub,
		Topics:      []string{"room"},
		Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, data []byte) error {
				_, err := hub.Publish(c.Context(), broadcast.Message{Topic: "room", Data: data})
				return err
			}
		},
	})
	defer server.Close()

	ctx := context.Background()
	c, err := ws.Dial(ctx, server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ws.StatusNormalClosure, "")
	var frame struct{ Ready, Topic, Data string }
	c.ReadJSON(ctx, &frame)
	fmt.Println("ready:", frame.Ready != "")
	c.Write(ctx, ws.Text, []byte("hello, room"))
	c.ReadJSON(ctx, &frame)
	fmt.Println(frame.Topic, frame.Data)
	// Output:
	// ready: true
	// room hello, room
}

func ExampleRaw() {
	typ, data, _ := ws.Raw(&broadcast.Message{Topic: "prices", Data: []byte("42")})
	fmt.Println(typ == ws.Text, string(data))
	// Output: true 42
}

// A connection that answers each message, and keeps itself alive.
func ExampleUpgrade() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Upgrade(w, r, nil)
		if err != nil {
			return // the client has been answered
		}
		defer c.Close(ws.StatusNormalClosure, "")
		typ, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		c.Write(r.Context(), typ, append([]byte("you said "), data...))
	}))
	defer server.Close()

	c, err := ws.Dial(context.Background(), server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.CloseNow()
	c.Write(context.Background(), ws.Text, []byte("hello"))
	_, data, _ := c.Read(context.Background())
	fmt.Println(string(data))
	_, _, err = c.Read(context.Background())
	fmt.Println(ws.CloseStatus(err))
	// Output:
	// you said hello
	// 1000
}

func ExampleDial() {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := ws.Dial(context.Background(), server.URL, nil)
	var refused *ws.HandshakeError
	if errors.As(err, &refused) {
		fmt.Println("answered with", refused.Status)
	}
	// Output: answered with 404
}
