// Package fanfare is what the kit's two transports share: what a client is granted
// or refused, what a stream says itself, and what its handler counts. This page is
// also the tour of the kit.
//
// fanfare adds server push to a program on net/http. A message is published once to
// a broadcast.Broadcaster and reaches every stream on its topic, over Server-Sent
// Events (package sse) or WebSocket (package ws), with one ID for both. A client that
// loses its connection comes back on either transport with the last ID that it saw,
// also to another server, and gets exactly what it missed, or a gap notice where
// something is lost. A stream that stays silent has missed nothing.
//
// # Hello
//
//	func main() {
//		var hub broadcast.Hub
//		http.Handle("GET /events", &sse.Handler{Broadcaster: &hub, Topics: []string{"time"}})
//		http.Handle("GET /ws", &ws.Handler{Broadcaster: &hub, Topics: []string{"time"}})
//		go func() {
//			for now := range time.Tick(time.Second) {
//				hub.Publish(context.Background(), broadcast.Message{Topic: "time", Data: now.AppendFormat(nil, time.TimeOnly)})
//			}
//		}()
//		log.Fatal((&http.Server{Addr: "localhost:8080", ConnContext: sse.ConnContext}).ListenAndServe())
//	}
//
// A browser needs no library for it: new EventSource("/events") reconnects and resumes
// by itself.
//
// # The three packages
//
//   - broadcast knows nothing of HTTP. Its Hub keeps the newest messages of each topic,
//     in memory or on a Journal that several servers share.
//   - sse is the event stream: a Handler that streams topics, a Writer for events of
//     your own, a Client and a Reader.
//   - ws is the WebSocket: a Handler that streams the same topics, Upgrade and Dial for
//     connections of your own, a Client.
//
// Handlers are http.Handlers. They go where the program's other routes are, behind its
// authentication: their Grant hook sees the request and returns a [Grant], which names
// the client's topics, or a [Refusal].
//
// # Around them
//
//   - middleware: Bypass leads streams past other middleware that would hold them back
//     or cut them; Origins, Limit and Token decide who may connect; Drain ends a server's
//     streams one after the other.
//   - sse/ssetest, ws/wstest and faults run handlers in memory and in fake time, for tests
//     of your own. Their Diagnose functions name the middleware that would break a stream.
//   - browser serves fanfare.js, an EventSource look-alike over both transports.
//   - broadcast/natsjournal, broadcast/redisjournal and broadcast/prometheusstats are
//     modules of their own: Journals on NATS JetStream and Redis, figures for Prometheus.
//
// # Where to read on
//
// The package docs of broadcast (what is guaranteed), sse and ws (what goes over the
// wire) come first. The folder docs of the repository has a page for each question that
// comes up on the way to production: authentication, proxies, middleware, shutting
// down, slow clients, several servers, testing. The folder examples has programs to
// copy from.
package fanfare
