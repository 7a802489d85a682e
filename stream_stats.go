package fanfare

import "time"

// StreamStats is a snapshot of the streams of one handler, returned by the Stats
// methods of sse.Handler and ws.Handler. Counters start at zero with the handler's
// first use, and only grow. Behind and Lag cover the streams that an http.Server has
// accepted.
type StreamStats struct {
	Open   int           // open streams
	Behind int           // open streams with messages that have not been written yet
	Lag    time.Duration // the longest time for which one of these has made no progress; short if its client reads

	Opened   uint64 // streams that began; each request of a client that polls begins one
	Resumed  uint64 // streams that began from a position
	Messages uint64 // messages written, including those of snapshots
	Replayed uint64 // messages written to streams that had resumed and not caught up yet
	Bytes    uint64 // bytes of frames and events written, before TLS, without heartbeats and pings
	Gaps     uint64 // gaps sent, and beginnings in place of a gap

	Ended   map[string]uint64 // streams that ended, by the reason in the log, of which there are fewer than twenty
	Refused map[int]uint64    // refused requests, by the status of the refusal, also where an EventSource was sent 200
}
