// Package sse streams Server-Sent Events (WHATWG HTML 9.2) to browsers and other
// HTTP clients.
//
// [Handler] is an http.Handler that streams the topics of a
// broadcast.Broadcaster, and resumes where a client left off:
//
//	mux.Handle("GET /events", &sse.Handler{Broadcaster: &hub, Topics: []string{"prices"}})
//
// [Writer] streams what a handler of your own sends, for example the tokens of an
// answer. [Reader] reads a stream.
//
// # On the wire
//
// A stream begins with the time to reconnect after, the state that a fresh client begins
// with (Last and Snapshot of its Grant), as events without an id, if there is any, and its
// position, which an EventSource keeps as its last event ID and sends back as Last-Event-ID when it
// reconnects. A fetch-based client may send it as the query parameter lastEventId
// (or last_event_id, lastEventID); the header counts if both are there. A block
// with an id alone moves the position and fires nothing:
//
//	retry: 3000
//	id: 1f-29
//
// A message has its Type as the event type. Where it is Binary, the data is base64
// and the type ends in ";base64":
//
//	event: tick
//	id: 1f-2a
//	data: {"usd":42}
//
// Where messages may have been lost, the stream says so before it goes on; topics
// are left out where it is all of them:
//
//	event: gap
//	id: 1f-2a
//	data: {"gap":"1f-2a","topics":["prices"]}
//
// While nothing is to be said, a heartbeat tells the position if it has moved (by
// messages that are not for this client), else it is a comment, a line with a
// colon alone.
//
// With envelope=1 in the query each block's data is the JSON that a WebSocket of
// this kit carries (see package ws), without an event type: one format on both
// transports. With heartbeat=1 each heartbeat tells the position, moved or not: a page
// sees no comments, and cannot tell a quiet stream from a dead one. With padding=true
// the stream begins with 2 KB of comment, which old polyfills wait for.
//
// With poll=1 the response ends with the first messages, or after 25 s with the
// position: long polling, for networks that hold a response back until it has ended.
// A request without a position is answered at once. Each poll resumes behind the one
// before it as any stream does.
//
// # Behind a proxy
//
// The response says Cache-Control: no-store, no-transform and X-Accel-Buffering:
// no, so that proxies neither keep, compress nor collect it. Streams outlive
// http.Server's ReadTimeout and WriteTimeout; each write has a deadline of its
// own instead. Heartbeats keep a connection alive that proxies would cut for
// being idle. Middleware of one's own may stand in the way of all that: see
// ssetest.Diagnose, and middleware.Bypass.
//
// # Many streams
//
// An idle stream holds a goroutine or two and what net/http keeps for a request,
// some 26 KB. With [Handler].Detach it gives that back: a detached stream has no
// goroutine while it is idle, and takes about a KB. That holds for HTTP/1.1.
package sse
