package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// One hub, and a handler for each transport.
func Example() {
	var hub broadcast.Hub
	mux := http.NewServeMux()
	mux.Handle("GET /events", &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}})
	mux.Handle("GET /ws", &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}})
	server := httptest.NewServer(mux)
	defer server.Close()
	ctx := context.Background()

	// A client on Server-Sent Events gets a message, and drops.
	response, err := http.Get(server.URL + "/events")
	if err != nil {
		fmt.Println(err)
		return
	}
	hub.Publish(ctx, broadcast.Message{Topic: "news", Data: []byte("first")})
	event, err := sse.NewReader(response.Body).Read()
	fmt.Printf("SSE: %s %v\n", event.Data, err)
	response.Body.Close()

	// It comes back over a WebSocket, with the ID of what it saw last.
	hub.Publish(ctx, broadcast.Message{Topic: "news", Data: []byte("second")})
	conn, err := ws.Dial(ctx, server.URL+"/ws?lastEventId="+event.ID, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.CloseNow()
	var frame struct{ Ready, Data string }
	for frame.Data == "" {
		if err := conn.ReadJSON(ctx, &frame); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println("WebSocket:", frame.Data)
	// Output:
	// SSE: first <nil>
	// WebSocket: second
}

func ExampleHub() {
	var hub broadcast.Hub // works as it is, in memory
	ctx := context.Background()
	sub, err := hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{"prices"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()

	hub.Publish(ctx, broadcast.Message{Topic: "prices", Type: "tick", Data: []byte("42")})
	hub.Publish(ctx, broadcast.Message{Topic: "weather", Data: []byte("rain")})

	buf := make([]*broadcast.Message, 16)
	n, err := sub.Poll(buf)
	for _, m := range buf[:n] {
		fmt.Println(m.Topic, m.Type, string(m.Data))
	}
	fmt.Println(err)
	// Output:
	// prices tick 42
	// <nil>
}

// A client that is too slow is overrun, and gets a gap.
func ExampleMessages() {
	hub := broadcast.Hub{Keep: 2}
	ctx := context.Background()
	before, _ := hub.Position(ctx)
	for _, text := range []string{"one", "two", "three", "end"} {
		hub.Publish(ctx, broadcast.Message{Topic: "log", Data: []byte(text)})
	}
	options := broadcast.SubscribeOptions{Topics: []string{"log"}, After: before}
	for m, err := range broadcast.Messages(ctx, &hub, options) {
		if err != nil {
			fmt.Println("some were lost")
			continue
		}
		fmt.Println(string(m.Data))
		if string(m.Data) == "end" {
			break
		}
	}
	// Output:
	// some were lost
	// three
	// end
}

// A page misses nothing if its server takes the position first, then reads what the page
// shows, and lets the page's stream resume from the position.
func ExampleHub_Position() {
	var hub broadcast.Hub
	ctx := context.Background()
	position, _ := hub.Position(ctx)
	// ... read the state here; something is published meanwhile:
	hub.Publish(ctx, broadcast.Message{Topic: "cart", Data: []byte("one more")})

	for m := range broadcast.Messages(ctx, &hub, broadcast.SubscribeOptions{Topics: []string{"cart"}, After: position}) {
		fmt.Println(string(m.Data))
		break
	}
	// Output: one more
}

func ExampleParseID() {
	id, err := broadcast.ParseID("1f-2a")
	fmt.Println(id, id.Epoch(), id.Seq(), err)
	_, err = broadcast.ParseID("1F-2A")
	fmt.Println(err)
	// Output:
	// 1f-2a 31 42 <nil>
	// broadcast: not an ID (want the text of one, such as "1f-2a")
}

// A page that shows a map: the values of all Keys at first, then those that change.
func ExampleMessage_key() {
	hub := &broadcast.Hub{Retain: map[string]broadcast.Retention{"prices": {Values: 20_000, TTL: -1}}}
	defer hub.Close()
	set := func(key, price string) {
		hub.Publish(context.Background(), broadcast.Message{Topic: "prices", Key: key, Data: []byte(price)})
	}
	set("AAPL", "230")
	set("MSFT", "410")
	set("AAPL", "231") // replaces 230

	sub, err := hub.Subscribe(context.Background(), broadcast.SubscribeOptions{Topics: []string{"prices"}, Beginning: true})
	if err != nil {
		panic(err)
	}
	defer sub.Close()
	buf := make([]*broadcast.Message, 64)
	n, err := sub.Poll(buf)
	if errors.Is(err, broadcast.ErrBegin) {
		fmt.Println("forget what is shown")
	}
	for _, m := range buf[:n] {
		fmt.Println(m.Key, string(m.Data))
	}
	// Output:
	// forget what is shown
	// AAPL 231
	// MSFT 410
}
