// Package delivery is what sse.Handler and ws.Handler have in common: how a request
// becomes a stream, and how a stream carries a subscription to its client.
//
//	Engine     one per handler: its configuration, and what its streams share
//	Transport  what the two handlers do differently with a request
//	Opening    a stream before its first byte, while the request can still be refused
//	Stream     a subscription, a connection, and the writer between them
//	Codec      makes bytes of messages and notices
//	Conn       writes them
//
// A Stream's signal says whether its writer runs. The engine's clock decides when a
// heartbeat or the end is due; any goroutine may ask for the end. Everything else is the
// writer's. The writer polls, writes everything that it polled, and only then writes a
// position, so that no position overtakes a message.
package delivery
