package broadcasttest

import (
	"sync"
	"testing"

	"github.com/fanfare-go/fanfare/broadcast"
)

// flow bounds how many messages publishers are ahead of a reader, so that the reader is not
// overrun.
type flow struct {
	ahead      chan struct{} // one element for each message that is not read yet
	quit       chan struct{} // closed at the end of the case
	publishers sync.WaitGroup
}

func newFlow(t *testing.T, ahead int) *flow {
	f := &flow{ahead: make(chan struct{}, ahead), quit: make(chan struct{})}
	t.Cleanup(func() {
		close(f.quit)
		f.publishers.Wait()
	})
	return f
}

// acquire waits until one more message may be published. It reports false at the end of the
// case.
func (f *flow) acquire() bool {
	select {
	case f.ahead <- struct{}{}:
		return true
	case <-f.quit:
		return false
	}
}

// release says that n messages were read.
func (f *flow) release(n int) {
	for range n {
		<-f.ahead
	}
}

// inBackground publishes texts to topics in turn, as the flow allows. It returns a channel
// that gets the IDs once all are published.
func (f *flow) inBackground(t *testing.T, b broadcast.Broadcaster, topics []string, texts []string) <-chan []broadcast.ID {
	done := make(chan []broadcast.ID, 1)
	f.publishers.Go(func() {
		var ids []broadcast.ID
		defer func() { done <- ids }()
		for i, text := range texts {
			if !f.acquire() {
				return
			}
			id, ok := tryPublish(t, b, topics[i%len(topics)], text)
			if !ok {
				return
			}
			ids = append(ids, id)
		}
	})
	return done
}
