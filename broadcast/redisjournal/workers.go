package redisjournal

import (
	"sync"
	"time"
)

// workers runs functions on goroutines of its own. A goroutine that has nothing to do waits a
// moment for the next function: a new one would first have to grow its stack, which is as
// much work as a command.
type workers struct {
	once  sync.Once
	tasks chan func() // a goroutine that waits receives from it
}

// workerIdle is how long a goroutine waits for something to do.
const workerIdle = 50 * time.Millisecond

// do runs f on another goroutine.
func (w *workers) do(f func()) {
	w.once.Do(func() { w.tasks = make(chan func()) })
	select {
	case w.tasks <- f:
	default:
		go w.work(f)
	}
}

func (w *workers) work(f func()) {
	timer := time.NewTimer(workerIdle)
	defer timer.Stop()
	for {
		f()
		timer.Reset(workerIdle)
		select {
		case f = <-w.tasks:
		case <-timer.C:
			return
		}
	}
}
