// Package sse streams Server-Sent Events (WHATWG HTML 9.2) to browsers and other
// HTTP clients.
//
// [Handler] is an http.Handler that streams topics of a broadcast.Broadcaster. A
// client that reconnects resumes after the last event it got:
//
//	mux.Handle("GET /events", &sse.Handler{Broadcaster: &hub, Topics: []string{"prices"}})
//
// [Writer] streams the events of a handler of your own, for example the tokens of an
// answer, which a [RuneBuffer] joins where they were cut within a rune. In a Go program, [Client] follows a stream as a browser's EventSource does,
// and [Reader] reads the events of a single response.
//
// # On the wire
//
// A Handler's stream begins with a block that fires no event. It sets the time to wait
// before reconnecting, in milliseconds and a little different for each stream. A comment
// says after how many seconds of silence a heartbeat is sent; it may have a fraction, and
// is left out if none is sent. The id is the position of the stream:
//
//	retry: 3000
//	: heartbeat 15
//	id: 1f-29
//
// An EventSource keeps the last id as its last event ID, and sends it as the header
// Last-Event-ID when it reconnects (9.2.3). Other clients may send it as the query
// parameter lastEventId, last_event_id or lastEventID. The header takes precedence.
//
// A client that does not resume may get state first: the messages of Snapshot and Last
// of its Grant, or with Beginning all that its topics keep. They precede the position and
// have no id. A client that is cut among them therefore gets all of them again.
//
// A message is one event. The event type is the Type of the message. The data of a
// Binary message is base64, and its type ends in ";base64":
//
//	event: tick
//	id: 1f-2a
//	data: {"usd":42}
//
// Where messages may have been lost, a gap event precedes the messages after the loss.
// It lists the topics that have lost messages. Without a list, all of them may have:
//
//	event: gap
//	id: 1f-2a
//	data: {"gap":"1f-2a","topics":["prices"]}
//
// A stream with a Snapshot or a Beginning has no gaps. Where what the client has is void, at
// the start and after a loss, a begin event comes first, then the state without ids, and then
// the position. Topics lists those that begin, all if it is missing, and partial those that
// lack something. The id of a begin event resumes as a loss, so that a client which is cut
// before the position begins again:
//
//	event: begin
//	id: 1-0
//	data: {"begin":"1-0","partial":["prices"]}
//
// Where many Keys have changed since the client's position, their messages have no ids
// either, and the position follows.
//
// When all topics of a stream have ended, it sends its position, and the response ends. A
// client that comes back with it is answered with 204, for which an EventSource stops. A
// client that is too slow for three beginnings gets a reconnection time of at least 5 s, and
// the response ends.
//
// A heartbeat is written after a time without any other bytes. If messages for other
// clients have moved the position, the heartbeat is a block with an id alone, which
// fires no event. Otherwise it is a comment, a line with a colon alone.
//
// Clients differ in what else they take for an event. Some fire one for a block without
// data, or for each blank line; openai-go v1 fails on these. All that were tried ignore
// comments and the retry line in front of an event. So a [Writer] writes no blank line but
// after an event, and its retry line is part of the first event's block. A Handler whose
// Notice leaves the notices out does the same. The comment with the interval is part of the
// first block, too, and comes after the retry line. A Writer has none, and neither has a
// Handler with a Notice, whose clients have a protocol of their own.
//
// # Query parameters
//
// 1 and true both switch one on.
//
//   - envelope=1: the data of each block is the JSON that a WebSocket of this kit
//     carries, and events have no type. A client parses the same format on both
//     transports; package ws documents it. The interval of heartbeats stands in the
//     envelope with which the stream begins, in place of the comment.
//   - heartbeat=1: each heartbeat is a block with the position, moved or not. An
//     EventSource hides comments from scripts. With envelopes the block fires an event,
//     so that a page can tell a quiet stream from a dead one.
//   - padding=1: the stream begins with a comment of 2 KB, which old polyfills
//     wait for.
//   - poll=1: the response ends with the first messages, with the position where these have
//     no ids, or with the position after 25 s. This is long polling, for networks that hold a response back until it has
//     ended. Each poll resumes after the previous one, as a stream does. A poll
//     without a position is answered at once.
//
// # Behind a proxy
//
// The headers Cache-Control: no-store, no-transform and X-Accel-Buffering: no keep
// proxies from caching, compressing and collecting the response. A Cache-Control that was
// set before is kept by a Writer, and by a Handler if it has no-store or no-cache. Heartbeats keep
// proxies from cutting a connection for being idle. ReadTimeout and WriteTimeout of the
// http.Server do not end a stream: each write has its own deadline instead. A
// middleware of your own may still break a stream. ssetest.Diagnose finds out, and
// middleware.Bypass leads past it.
//
// # Many streams
//
// An idle stream costs about 26 KB: one or two goroutines, and what net/http keeps for
// a request. With [Handler].Detach it costs about 1 KB and no goroutine. Detaching
// works over HTTP/1.1.
package sse
