package delivery

import (
	"net"
	"time"

	"github.com/fanfare-go/fanfare/internal/watch"
)

// Conn is the connection of one stream. The stream's writer alone calls Write, Beat
// and End, one at a time.
type Conn interface {
	// Write writes frames in one go, with a deadline. w is the worker that runs the
	// writer, nil if the stream has a goroutine of its own; w.Wait is called before
	// anything that blocks. Any error ends the stream.
	Write(frames net.Buffers, w *Worker) error

	// Beat writes what keeps the connection alive while there is nothing to send.
	Beat(w *Worker) error

	// Tick does what the connection has to do by the clock. It does not block, may be
	// called at any time, one call after the other, and returns how long to wait
	// before the next call; 0: there is none.
	Tick() time.Duration

	// Closing sets one deadline for everything that is still to be written, and cuts
	// the connection if that passes. It may be called from any goroutine.
	Closing()

	// Cut makes the Write in progress and all later ones fail at once. It may be
	// called from any goroutine.
	Cut()

	// End is the writer's last call.
	End(why Reason)
}

// Unread is a Conn that nothing reads from, so that only a write, or a Watch, finds out
// that the client has left.
type Unread interface {
	Conn

	// Watch lets w call target, at the latest until End, once the client has left. It
	// reports false if w cannot know that.
	Watch(w *watch.Watch, target watch.Target) bool
}
