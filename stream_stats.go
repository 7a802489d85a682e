package fanfare

import "time"

// StreamStats is a snapshot of the streams of one handler, as the Stats methods of
// sse.Handler and ws.Handler return it. Counters start with the handler's first use
// and only grow. Behind and Lag cover the streams that came in through an
// http.Server.
type StreamStats struct {
	Open   int           // open streams
	Behind int           // open streams that have something to write
	Lag    time.Duration // the longest time that one of these has made no progress; short for a client that reads

	Opened   uint64 // streams that began; a client that polls begins one with each request
	Resumed  uint64 // streams that began from a position
	Messages uint64 // messages written, those of a Snapshot too
	Replayed uint64 // messages written to streams that had resumed and not caught up yet
	Bytes    uint64 // bytes of frames and events written, before TLS; without heartbeats and pings
	Gaps     uint64 // gaps sent

	Ended   map[string]uint64 // streams that ended, by the reason in the log: one of fewer than twenty
	Refused map[int]uint64    // refused requests, by the HTTP status that the refusal stands for
}
