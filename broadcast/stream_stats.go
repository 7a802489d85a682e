package broadcast

import "time"

// StreamStats is a snapshot of the streams of one handler: sse.Handler and ws.Handler
// have a method Stats that returns it. What is counted is counted since the handler's
// first use, and grows. Behind and Lag are of streams that came in through an http.Server.
type StreamStats struct {
	Open   int           // streams that are open
	Behind int           // those of them that have something to write
	Lag    time.Duration // for how long one of these has been at it, which a client that reads keeps short

	Opened   uint64 // streams that began; a client that polls begins one with each request
	Resumed  uint64 // those of them that came with a position
	Messages uint64 // written, those of a Snapshot too
	Replayed uint64 // those of them that went to streams which had resumed, and not caught up yet
	Bytes    uint64 // written, in frames and events, before TLS; without heartbeats and pings
	Gaps     uint64 // told

	Ended   map[string]uint64 // streams, by the reason that the log has: one of fewer than twenty
	Refused map[int]uint64    // requests, by the HTTP status that the refusal stands for
}
