// Package delivery is what an SSE stream and a WebSocket stream have in common:
// how a request becomes a subscription, and the one writer that carries a
// subscription to its client.
//
// What differs between the transports is behind two small things: a [Codec]
// makes bytes of a message, a [Conn] writes them.
package delivery

import (
	"net"
	"time"
)

// Conn is one stream's connection. Only its stream's writer calls Write, Beat
// and End, one at a time.
type Conn interface {
	// Write writes frames in one go, on the time of a worker (nil: of a goroutine
	// of the stream's own). It has a deadline, and its error is final.
	Write(frames net.Buffers, w *Worker) error

	// Beat writes what keeps the connection alive where nothing is to be said.
	Beat(w *Worker) error

	// Tick does what the connection has to do by the clock. It does not wait, may be
	// called at any time, one call after the other, and returns after how long to call
	// it again; 0: never.
	Tick() time.Duration

	// Closing sets the deadline for all that is still to be written. It may be
	// called from anywhere, and cuts the connection if need be.
	Closing()

	// Cut lets a Write that is under way, and all that follow, fail at once. It may
	// be called from anywhere.
	Cut()

	// End is the last act of the writer.
	End(why Reason)
}

// Reason is why a stream ended.
type Reason struct {
	Name   string // for the log and the counts: one of a few
	Code   int    // the WebSocket status code; 0: no close frame, the connection is cut
	Text   string // goes with Code
	Owed   bool   // first the client gets what is in the log when the stream is asked to end
	Detail string // for the log
}

// The reasons that both transports have.
var (
	Polled       = Reason{Name: "polled", Code: 1000, Owed: true}
	Restart      = Reason{Name: "restart", Code: 1012, Text: "service restart", Owed: true}
	Expired      = Reason{Name: "expired", Code: 3000, Text: "expired"}
	RequestEnded = Reason{Name: "request ended", Code: 1001, Text: "going away"}
	Unspeakable  = Reason{Name: "a gap that cannot be told", Code: 1013, Text: "messages were lost"}
	Fault        = Reason{Name: "fault", Code: 1011}
	Cut          = Reason{Name: "cut"}
	Failed       = Reason{Name: "write failed"}
	PeerGone     = Reason{Name: "peer gone"}
)
