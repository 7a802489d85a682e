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

// way is a client's way to the server: over one link after the other, for how fast a link
// is is set before its first use.
type way struct {
	server  *memnet.Listener
	streams func() []context.Context // that the client has at the server
	within  time.Duration            // in which the server has to find out that a client has vanished

	mu   sync.Mutex
	rng  *rand.Rand
	link *faults.Link
	late time.Duration // how long a connect is on its way at most
}

func newWay(server *memnet.Listener, rng *rand.Rand) *way {
	w := &way{server: server, rng: rng}
	w.link = w.fast()
	return w
}

// dial is an http.Transport's. As over TCP, the client may go on to write, and may have
// hung up again, before the server hears of it.
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

// fast and slow make links. With little room for what is on the way, a write has to wait
// for the client.
func (w *way) fast() *faults.Link { return &faults.Link{Buffer: []int{0, 256, 4096}[w.rng.IntN(3)]} }

func (w *way) slow() *faults.Link {
	return &faults.Link{Buffer: 256 << w.rng.IntN(5), BytesPerSecond: 1 + w.rng.IntN([]int{20, 2000}[w.rng.IntN(2)])}
}

// change moves the client on to another link, as a phone that changes networks.
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
	{"late connects", (*way).connectLate},
}

// vanish takes the client away without a word, which the server has to find out.
func (w *way) vanish() error {
	link := w.now()
	link.Vanish()
	vanished, away := w.streams(), w.upTo(2*w.within)
	time.AfterFunc(away, link.Resume)
	time.Sleep(max(away, w.within))
	for _, stream := range vanished {
		if stream.Err() == nil {
			return fmt.Errorf("the client has been gone for %v, and the server still has its stream", max(away, w.within))
		}
	}
	return nil
}

func (w *way) cut() error {
	w.now().Cut()
	return nil
}

// cutInTheMiddle cuts in an event or a frame, or in the answer to a request.
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

// connectLate lets connections overtake each other on their way to the server.
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
