package ws

import "sync"

// budget bounds how many bytes of messages wait. One goroutine acquires, any may
// release.
type budget struct {
	most     int64         // bytes, exceeded by one message at most; negative: no limit
	released chan struct{} // has a token if bytes were released since the last wait

	mu   sync.Mutex
	used int64 // guarded by mu
}

func newBudget(most int64) *budget {
	return &budget{most: most, released: make(chan struct{}, 1)}
}

// acquire waits until n bytes fit in, or done is closed, and counts them.
func (b *budget) acquire(n int64, done <-chan struct{}) {
	for !b.fits(n) {
		select {
		case <-b.released:
		case <-done:
			b.add(n)
			return
		}
	}
	b.add(n)
}

// fits reports whether n more bytes are allowed. A single message always is.
func (b *budget) fits(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most < 0 || b.used == 0 || b.used+n <= b.most
}

func (b *budget) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
}

// release returns n bytes.
func (b *budget) release(n int64) {
	b.add(-n)
	select {
	case b.released <- struct{}{}:
	default:
	}
}
