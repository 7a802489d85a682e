package abuse_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// promptly is how soon a bystander gets a message, on a machine that is busy with an
// attack and the race detector.
const promptly = 2 * time.Second

// bystanders are well-behaved clients, one of each kind, which must not notice the attack.
type bystanders struct {
	victim  *victim
	began   time.Time
	reading sync.WaitGroup
	mu      sync.Mutex
	slowest time.Duration
	count   int
}

// withBystanders connects the bystanders. Until the test is over a message is published
// every 20 ms, and each of them must get each message, in order and promptly.
func (v *victim) withBystanders(t *testing.T) {
	b := &bystanders{victim: v, began: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{}}
	for _, path := range []string{"/attached", "/detached"} {
		b.listen(t, overSSE(ctx, t, client, v.server.URL+path+"/events?topic=news"))
		b.listen(t, overWebSocket(ctx, t, v.server.URL+path+"/ws?topic=news"))
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		b.publish(t, over)
	}()
	t.Cleanup(func() {
		close(over)
		<-ended
		late := time.AfterFunc(20*time.Second, cancel)
		b.reading.Wait()
		late.Stop()
		cancel()
		client.CloseIdleConnections()
		assert.Less(t, b.slowest, promptly, "the slowest delivery to a bystander")
		t.Logf("bystanders: %d messages, the slowest took %v", b.count, b.slowest)
	})
}

// publish publishes messages with their number and time, and "over" as the last one.
func (b *bystanders) publish(t *testing.T, over <-chan struct{}) {
	put := func(text string) {
		_, err := b.victim.hub.Publish(context.Background(), broadcast.Message{Topic: "news", Data: []byte(text)})
		assert.NoError(t, err)
	}
	defer put("over")
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ticker.C:
			put(fmt.Sprint(n, " ", int64(time.Since(b.began))))
		case <-over:
			return
		}
	}
}

// listen checks the numbers of the messages that next returns, and notes their delays.
func (b *bystanders) listen(t *testing.T, next func() (string, error)) {
	b.reading.Go(func() {
		for want := 0; ; want++ {
			text, err := next()
			if !assert.NoError(t, err, "a bystander") || text == "over" {
				return
			}
			var n int
			var at time.Duration
			_, err = fmt.Sscan(text, &n, &at)
			if !assert.NoError(t, err, text) || !assert.Equal(t, want, n, "a message is missing") {
				return
			}
			b.note(time.Since(b.began) - at)
		}
	})
}

func (b *bystanders) note(took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	b.slowest = max(b.slowest, took)
}

// overSSE opens an event stream, and returns a function that reads its next message.
func overSSE(ctx context.Context, t *testing.T, client *http.Client, url string) func() (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := client.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	t.Cleanup(func() { response.Body.Close() })
	events := sse.NewReader(response.Body)
	return func() (string, error) {
		e, err := events.Read()
		return string(e.Data), err
	}
}

// overWebSocket opens a WebSocket, and returns a function that reads its next message.
func overWebSocket(ctx context.Context, t *testing.T, url string) func() (string, error) {
	c, err := ws.Dial(ctx, url, nil)
	require.NoError(t, err)
	t.Cleanup(func() { c.CloseNow() })
	return func() (string, error) {
		for {
			var m struct{ Topic, Data string }
			if err := c.ReadJSON(ctx, &m); err != nil || m.Topic != "" {
				return m.Data, err
			}
		}
	}
}
