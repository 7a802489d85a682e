package broadcasttest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// Two servers share a journal. A client moves from one to the other with its last ID, and gets
// a gap when the engine has been emptied.
func ExampleJournal() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var journal broadcasttest.Journal
	one := &broadcast.Hub{Journal: &journal}
	two := &broadcast.Hub{Journal: journal.Node()}
	go one.Run(ctx)
	go two.Run(ctx)

	seen, _ := one.Publish(ctx, broadcast.Message{Topic: "news", Data: []byte("seen before")})
	one.Publish(ctx, broadcast.Message{Topic: "news", Data: []byte("missed")})
	for m, err := range broadcast.Messages(ctx, two, broadcast.SubscribeOptions{Topics: []string{"news"}, After: seen}) {
		switch {
		case errors.Is(err, broadcast.ErrGap):
			fmt.Println("messages were lost")
			return
		case err != nil:
			fmt.Println(err)
			return
		}
		fmt.Printf("%s\n", m.Data)
		journal.Recreate()
	}
	// Output:
	// missed
	// messages were lost
}

// A test checks what a function publishes, and what it does if that fails.
func ExampleRecorder() {
	var recorder broadcasttest.Recorder
	place := func(b broadcast.Broadcaster, dish string) error {
		_, err := b.Publish(context.Background(), broadcast.Message{Topic: "kitchen", Type: "order", Data: []byte(dish)})
		return err
	}

	fmt.Println(place(&recorder, "soup"))
	for _, m := range recorder.Messages() {
		fmt.Println(m.Topic, m.Type, string(m.Data))
	}
	recorder.Fail(errors.New("the line is down"))
	fmt.Println(place(&recorder, "bread"))
	fmt.Println(len(recorder.Messages()))
	// Output:
	// <nil>
	// kitchen order soup
	// broadcast: not published: the line is down
	// 1
}

// A test of your own Broadcaster.
func ExampleTestBroadcaster() {
	_ = func(t *testing.T) { // func TestMine(t *testing.T)
		broadcasttest.TestBroadcaster(t, broadcasttest.Config{
			Keep: 16,
			Open: func(t *testing.T) broadcast.Broadcaster {
				hub := &broadcast.Hub{Keep: 16} // in its place: your own
				t.Cleanup(func() { hub.Close() })
				return hub
			},
		})
	}
}

// A test of your own Journal.
func ExampleTestJournal() {
	_ = func(t *testing.T) { // func TestMine(t *testing.T)
		broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal {
			return new(broadcasttest.Journal) // in its place: your own
		})
	}
}
