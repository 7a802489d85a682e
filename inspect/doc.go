// Package inspect shows what Hubs and handlers do: a page, and the same as JSON. It shows
// topics with what is kept of them, how fast they grow and who reads; open streams with
// transport, age, lag, position and, below a middleware.Sessions, a fingerprint of their
// key; the health of a journal; and the live messages of one topic, on an event stream of
// this kit. It changes nothing.
//
//	mux.Handle("GET /debug/fanfare", onlyAdmins(&inspect.Handler{
//		Hubs:     map[string]*broadcast.Hub{"main": hub},
//		Handlers: map[string]inspect.Streamer{"events": events, "ws": sockets},
//	}))
//
// Whoever may open the page can read every message that is kept. Mount it inside of your own
// authentication; the Handler has none.
//
// # JSON
//
// The page asks its own URL with other queries, and so may a script:
//
//	?show=overview                        all Hubs and handlers, with their statistics
//	?show=topics&hub=main&after=b&has=x   topics by name, 100 at a time: those after b, with x in their names; next is the after of the next page
//	?show=streams&handler=ws              100 open streams: those with the longest lag first, then the oldest
//	?show=tail&hub=main&topic=a           an event stream: the newest 20 messages kept, then all that follow
//
// Times are in milliseconds. Counters only grow, so that two answers give a rate.
package inspect
