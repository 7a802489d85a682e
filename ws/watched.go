package ws

import (
	"sync/atomic"

	"github.com/fanfare-go/fanfare/internal/watch"
)

// watched is the state of an inbox that reads only while there is something to read. A
// watch over the socket starts a goroutine, which reads until it is between two messages
// and nothing has come. So an idle connection has no goroutine, and one whose client has sent
// a part of a message has one.
//
// A call of Ready while the goroutine reads makes it look once more before it ends, so that
// nothing is missed: the kernel reports an arrival once.
type watched struct {
	watch *watch.Watch // nil: a goroutine reads all the time. Set before the first read
	token atomic.Uint64

	// wakes counts the calls of Ready that the goroutine has not looked after yet. While it
	// is above 0 there is a goroutine, or the reading has ended.
	wakes atomic.Int64
}

// watchWith lets w start the reading, once run was called. It reports false if w cannot watch
// the connection: under TLS the socket does not show what can be read.
func (in *inbox) watchWith(w *watch.Watch) bool {
	in.watched.watch = w
	in.watched.wakes.Store(1) // run's
	token, ok := w.Add(in.conn.socket.in.reader.Raw, watch.Readable, in)
	if !ok {
		in.watched.watch = nil
	}
	in.watched.token.Store(uint64(token))
	return ok
}

// unwatch ends the watch. It is called before the connection is closed, and by run.
func (in *inbox) unwatch() {
	if token := in.watched.token.Swap(0); token != 0 {
		in.watched.watch.Remove(in.conn.socket.in.reader.Raw, watch.Token(token))
	}
}

// Ready implements [watch.Target]. It is also called once the connection was cut, which the
// kernel does not report.
func (in *inbox) Ready() {
	if in.watched.watch != nil && in.watched.wakes.Add(1) == 1 {
		go in.wake()
	}
}

func (in *inbox) wake() {
	in.conn.socket.resume()
	in.run()
}

// run reads until nothing is left to read, or the connection has ended.
func (in *inbox) run() {
	for {
		seen := in.watched.wakes.Load()
		for {
			r, rests := in.conn.nextOrRest()
			if rests {
				break
			}
			if !in.take(r) {
				in.unwatch()
				return // wakes stays above 0
			}
		}
		in.conn.socket.rest()
		if in.watched.wakes.CompareAndSwap(seen, 0) {
			return
		}
		in.conn.socket.resume()
	}
}
