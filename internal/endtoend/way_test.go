package endtoend_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/memnet"
)

// way is a client's network. It consists of one link after the other, because the speed of
// a link is set before its first use.
type way struct {
	server  *memnet.Listener
	streams func() []context.Context // the client's streams at the server
	within  time.Duration            // the server must notice within it that the client has vanished

	mu   sync.Mutex
	rng  *rand.Rand
	link *faults.Link
	late time.Duration // the longest that a new connection takes to reach the server
}

func newWay(server *memnet.Listener, rng *rand.Rand) *way {
	w := &way{server: server, rng: rng}
	w.link = w.fast()
	return w
}

// dial is an http.Transport's DialContext. As over TCP, the client may already have
// written, or closed the connection again, when it reaches the server.
func (w *way) dial(context.Context, string, string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	client, server := w.link.Pipe()
	time.AfterFunc(w.draw(w.late), func() {
		if w.server.Put(context.Background(), server) != nil {
			_ = server.Close()
		}
	})
	return client, nil
}

// draw draws a time up to most. The caller holds mu.
func (w *way) draw(most time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(most) + 1))
}

func (w *way) upTo(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.draw(most)
}

// fast and slow make links. Where the Buffer is small, a write waits for the client.
func (w *way) fast() *faults.Link { return &faults.Link{Buffer: []int{0, 256, 4096}[w.rng.IntN(3)]} }

func (w *way) slow() *faults.Link {
	return &faults.Link{Buffer: 256 << w.rng.IntN(5), BytesPerSecond: 1 + w.rng.IntN([]int{20, 2000}[w.rng.IntN(2)])}
}

// change moves the client to another link, like a phone that changes networks.
func (w *way) change(to func() *faults.Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link.Resume()
	w.link.Cut()
	w.link = to()
}

func (w *way) now() *faults.Link {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.link
}

var wayFaults = []fault[*way]{
	{"vanish", (*way).vanish},
	{"cut", (*way).cut},
	{"cut in the middle", (*way).cutInTheMiddle},
	{"stall", (*way).stall},
	{"trickle", (*way).trickle},
	{"late connections", (*way).connectLate},
}

// vanish makes the client unreachable, which the server must notice.
func (w *way) vanish() error {
	link := w.now()
	link.Vanish()
	vanished, away := w.streams(), w.upTo(2*w.within)
	time.AfterFunc(away, link.Resume)
	time.Sleep(max(away, w.within))
	for _, stream := range vanished {
		if stream.Err() == nil {
			return fmt.Errorf("the server still has the stream of a client that vanished %v ago", max(away, w.within))
		}
	}
	return nil
}

func (w *way) cut() error {
	w.now().Cut()
	return nil
}

// cutInTheMiddle cuts within an event, a frame or a response.
func (w *way) cutInTheMiddle() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link.CutAfter(1 + w.rng.IntN(3000))
	return nil
}

func (w *way) stall() error {
	w.now().Stall()
	time.Sleep(w.upTo(4 * time.Second))
	w.now().Resume()
	return nil
}

func (w *way) trickle() error {
	w.change(w.slow)
	time.Sleep(w.upTo(30 * time.Second))
	w.change(w.fast)
	return nil
}

// connectLate makes connections overtake each other.
func (w *way) connectLate() error {
	w.delay(40 * time.Second)
	w.now().Cut()
	time.Sleep(w.upTo(40 * time.Second))
	w.delay(0)
	return nil
}

func (w *way) delay(most time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = most
}
