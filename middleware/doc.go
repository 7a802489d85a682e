// Package middleware decides which streams a server accepts, leads them past other
// middleware, and ends them: all in good order, or those of one session.
//
// Each middleware is a func(http.Handler) http.Handler, or a struct whose Handler
// method is one. They work with chi, with http.ServeMux and with any router that takes
// such functions. The order is, the outermost first:
//
//	Token      moves a bearer token from the URL to the Authorization header, before anything logs the URL
//	(logger)   one with Unwrap; one without goes inside of Bypass, and does not see the bytes of streams
//	Bypass     lets streams write past the wrappers below
//	(timeouts, compression)
//	Origins    refuses pages of other origins
//	Drain      moves the clients to other servers before this one shuts down
//	Limit      bounds how many streams there are, in all and for each client, and how fast a client opens them
//	Tickets    redeems the ticket in the URL, or another (authentication)
//	Sessions   knows the streams of each session or user, and ends them on all servers
//	(sse.Handler, ws.Handler)
//
// Drain, Limit and Sessions count every request that passes them, and Tickets refuses those
// without a ticket: mount them around streams, not around everything.
//
// A logger outside of Tickets logs the ticket, which is good for one stream only and mostly
// spent by then. To hide it, give the streams a group whose logger is inside of Tickets.
//
// Fields are set before the first use. A field of zero means the default. A negative
// duration turns off what it is for; a negative limit is an error, for which every
// request is refused with 500, and the log names the field.
package middleware
