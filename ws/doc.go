// Package ws upgrades HTTP requests to WebSockets (RFC 6455) that keep themselves
// alive, and streams the messages of a broadcast.Broadcaster over them.
//
// [Handler] is an http.Handler that streams the topics of a Broadcaster. A client that
// reconnects resumes where it was cut:
//
//	mux.Handle("GET /ws", &ws.Handler{Broadcaster: &hub, Topics: []string{"prices"}})
//
// [Client] follows a Handler from a Go program. [Upgrade] returns a [Conn] for a handler
// of your own, and [Dial] one for a client.
//
// # On the wire
//
// A [Handler] sends text messages in JSON. A client that does not resume first gets the
// state of its Grant (Last and Snapshot), if there is any, as messages without an id.
// Then comes the position at which the stream begins, or a gap, and then messages:
//
//	{"ready":"1f-29","heartbeat":30}
//	{"id":"1f-2a","topic":"prices","type":"tick","data":"{\"usd\":42}"}
//
// heartbeat is [Options].PingInterval in seconds: a connection that has been silent for
// much longer is dead. It may have a fraction, and is left out where there are no
// heartbeats. A gap or a begin has it too if the stream begins with that.
//
// data is a string, as in an EventSource; with "encoding":"base64" it is binary. An empty
// type is left out. Where they are set, key is what the message is the newest value of, removed
// says that the key has no value any more, first that the topic's events start over, and end
// that the topic has ended:
//
//	{"id":"1f-2b","topic":"prices","key":"AAPL","data":"42"}
//	{"id":"1f-2c","topic":"prices","key":"AAPL","removed":true,"data":""}
//
// A gap is sent where messages may have been lost, before those that follow it. If it
// has no topics, it concerns all of them. When nothing else is sent for a while, the
// stream sends its position if that has changed, because of messages that are not for
// this client:
//
//	{"gap":"1f-2a","topics":["prices"]}
//	{"position":"1f-31"}
//
// A stream with a Snapshot or a Beginning in its Grant has no gaps. Where what the client has is
// void, at the start and after a loss, begin comes first, then the state without ids, and then
// the position. topics lists those that begin, all if it is missing, and partial those that
// lack something. The position of a begin resumes as a loss, so that a client which is cut
// before the next one begins again:
//
//	{"begin":"1-0","partial":["prices"],"heartbeat":30}
//	{"topic":"prices","key":"AAPL","data":"42"}
//	{"ready":"1f-31","heartbeat":30}
//
// Where many keys have changed since the client's position, their messages have no ids either,
// and the position follows. When all topics have ended, the stream says so and closes with
// 1000. One whose client is too slow for three beginnings closes with 1013:
//
//	{"end":"1f-3e"}
//
// With heartbeat=1 in the query, the position is sent after every
// [Options].PingInterval in which nothing else was sent, even if it has not changed. The
// script of a page needs that to detect a dead connection, since browsers do not show it
// pings.
//
// A client may ask for other topics if its Grant has a Change. It sends the whole new
// set. The answer has the topics that it gets from then on, and the position from which it
// gets them. With a Beginning the new topics begin before the answer; until it has that, a
// client that reconnects must not resume with the new topics. A refusal has a status instead, and the client has the topics that it had. Of
// several requests in short time only the latest is answered.
//
//	{"topics":["prices","news"]}
//	{"topics":["prices","news"],"position":"1f-31"}
//	{"position":"1f-31","status":403}
//
// A client that reconnects asks for its topics in its request, in the way that
// Handler.Grant expects. It may also ask for them again in a message, with the position up
// to which it has had them: where the stream cannot go on from there with all of them, a
// gap comes before the answer. A [Client] does both.
//
//	{"topics":["prices","news"],"after":"1f-31"}
//
// A client whose Grant expires and has a Renew learns in how many seconds, in ready, or in the gap
// or begin that is its first notice. It may send a fresh token before that. The answer has the new
// time; a refusal has a status, and the old time stands. There is no expires if the stream does not
// expire, or not within 2,147,483 s (24 days): the setTimeout of a browser takes no more.
//
//	{"ready":"1f-2a","heartbeat":25,"expires":300}
//	{"token":"..."}
//	{"renewed":"1f-31","expires":300}
//	{"renewed":"1f-31","status":403}
//
// Only messages have a topic, so that they differ from all else. The position of a client
// is the newest id, ready, gap, begin, position or end that it has read. It resumes with that, on
// either transport, in the query parameter lastEventId or in the header Last-Event-ID.
//
// A browser does not show a script the status of a handshake that was refused. With
// refusals=close in the query, a Handler accepts the handshake of a client that its Grant
// refuses with 401 or 403, and closes the connection at once: with 3000 and the reason
// unauthorized, or with 3003 and the reason forbidden. Both are final. A Grant that expires
// closes with 3000 and the reason expired, after which a client comes back. Other refusals,
// those of a foreign origin among them, are still an HTTP status.
//
// With [Raw] a Handler sends the Data of messages and nothing else. Its clients cannot
// resume.
//
// # Keepalive
//
// A ping is sent after every [Options].PingInterval in which nothing came in. A peer
// that sends nothing from one ping to the next is cut. Its silence counts only while
// something reads from the connection, as a Handler does: it answers control frames also
// while Receive's function handles a message. On Linux a connection also ends when the
// peer has not acknowledged what was sent for PingInterval + WriteTimeout.
//
// # Many connections
//
// With [Handler].Detach an idle connection takes a goroutine and some 8 KB, a quarter of
// what it takes otherwise. With [Options].Compression a message is deflated once for all
// clients.
//
// # In a browser
//
// The package does not build for GOOS=js: a Go program in a browser cannot open a TCP
// connection. It can follow the same topics with sse.Client, which does build there.
package ws
