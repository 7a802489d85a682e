// Package ws upgrades HTTP requests to WebSockets (RFC 6455) that stay alive by
// themselves, and streams a broadcast.Broadcaster over them.
//
// [Handler] is an http.Handler that streams the topics of a Broadcaster, and
// resumes where a client left off:
//
//	mux.Handle("GET /ws", &ws.Handler{Broadcaster: &hub, Topics: []string{"prices"}})
//
// [Upgrade] gives a [Conn] to a handler of your own; [Dial] is the client's side.
//
// # On the wire
//
// A [Handler] sends text messages in JSON. First comes the state that a fresh client
// begins with (Last and Snapshot of its Grant), as messages without an id, if there is
// any; then where the stream begins, or a gap instead; then messages:
//
//	{"ready":"1f-29"}
//	{"id":"1f-2a","topic":"prices","type":"tick","data":"{\"usd\":42}"}
//
// data is a string, as an EventSource's is; "encoding":"base64" says that it is
// binary; type is left out where it is empty. Where messages may have been lost,
// the stream says so before it goes on; topics are left out where it is all of
// them. While nothing else is sent, the stream tells its position if that has
// moved, by messages that are not for this client:
//
//	{"gap":"1f-2a","topics":["prices"]}
//	{"position":"1f-31"}
//
// With heartbeat=1 in the query the position is told each [Options].PingInterval in
// which nothing else went out, moved or not: a page sees no pings, and cannot tell a
// quiet connection from a dead one.
//
// A client whose Grant has a Change may ask for other topics: for the whole new set.
// The answer has what it has from then on, and from which position; with a status where
// that is not what it has asked for. It comes back with them when it reconnects, in
// whatever way Handler.Grant finds them in a request.
//
//	{"topics":["prices","news"]}
//	{"topics":["prices","news"],"position":"1f-31"}
//
// Only a message has a topic, so none can be taken for what the stream says
// itself. A client's position is what the last of these named: it comes back
// with it, on either transport, as the query parameter lastEventId (or as the
// header Last-Event-ID, where it can set one).
//
// [Raw] sends Data alone, to clients that want no envelope; they cannot resume.
//
// # Keepalive
//
// A ping goes out every [Options].PingInterval in which nothing came in. A peer
// that is silent from one ping to the next is cut; silence counts only while
// something waits to read from it. Control frames are answered while a message is
// being handled. On Linux a connection also ends once what was sent has been
// waiting for an acknowledgement for PingInterval + WriteTimeout.
//
// # Many connections
//
// With [Handler].Detach an idle connection is a goroutine and some 8 KB, a quarter
// of what it takes otherwise. With [Options].Compression a message is deflated
// once, however many clients get it.
package ws
