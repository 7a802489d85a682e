// Package fanfare has the types that both transports of the kit share: the grant or
// refusal of a client, the notices of a stream, and the counters of a handler. This page
// is also a tour of the kit.
//
// fanfare adds server push to a program on net/http. A message is published once to a
// broadcast.Broadcaster, and reaches every stream with its topic over Server-Sent Events
// (package sse) or WebSocket (package ws), with the same ID on both. A client that loses
// its connection comes back with the last ID that it received, on either transport and
// to any server. It gets exactly the messages that it missed, or a gap notice if some
// are lost. A stream that stays silent has missed nothing.
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
// A browser needs no library: new EventSource("/events") reconnects and resumes by
// itself.
//
// # The three packages
//
//   - broadcast does not depend on net/http. Its Hub keeps the newest messages of each
//     topic in memory, or in a Journal that several servers share.
//   - sse implements event streams: a Handler that streams topics, a Writer for your own
//     events, a Client and a Reader.
//   - ws implements WebSockets: a Handler that streams the same topics, Upgrade and Dial
//     for your own connections, and a Client.
//
// A handler is an http.Handler. Mount it like any other route, inside of the program's
// authentication. Its Grant hook gets the request, and returns a [Grant] with the
// client's topics or a [Refusal].
//
// # Around them
//
//   - middleware: Bypass leads streams past other middleware that would buffer or end
//     them; Origins and Limit decide which clients may connect; Token and Tickets let a
//     browser in that cannot send headers; Sessions ends a user's streams on all servers;
//     Drain ends a server's streams in good order.
//   - sse/ssetest and ws/wstest run handlers in memory and in fake time, for your own
//     tests, and faults breaks their connections. The Diagnose functions find middleware
//     that would break a stream.
//   - inspect shows topics, streams and the live messages of a topic on a page, for
//     operators.
//   - cmd/fanfare prints the messages of a stream, and checks from outside what stands
//     between it and its clients.
//   - browser serves fanfare.js, which has the interface of an EventSource and uses both
//     transports.
//   - broadcast/natsjournal and broadcast/redisjournal are Journals on NATS JetStream and
//     Redis, and broadcast/prometheusstats exports counters to Prometheus. Each is a
//     module of its own.
//
// # Where to read on
//
// Read the package docs of broadcast first, for the guarantees, then those of sse and
// ws, for the wire formats. The repository's folder docs has a page for each subject on
// the way to production: authentication, proxies, middleware, shutting down, slow
// clients, several servers, testing. The folder examples has complete programs.
package fanfare
