package fanfare

import "time"

// StreamInfo is a snapshot of one open stream, returned by the Streams methods of sse.Handler
// and ws.Handler.
type StreamInfo struct {
	Transport string // "sse", "ws" or "poll"
	Detached  bool   // it has outlived its request, see Handler.Detach
	Resumed   bool   // it began from a position

	// Session is the same for all streams of one key of a middleware.Sessions, and empty without
	// one: the first 16 hex digits of the SHA-256 of the key, which may be a secret itself.
	Session string

	Age     time.Duration // since it began
	Silence time.Duration // since something was last written to it, heartbeats included
	Behind  bool          // it has messages that have not been written yet
	Lag     time.Duration // for how long it has made no progress while Behind
	Seq     uint64        // the sequence of the position up to which its client has been sent everything
}
