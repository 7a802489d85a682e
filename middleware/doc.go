// Package middleware is what stands between streams and the world: the way past
// other people's wrappers, who may connect and how often, and an orderly end.
//
// Each is a func(http.Handler) http.Handler, or a struct with a Handler method that
// is one, for chi, for the standard mux, for anything that takes such. They go in
// this order, the outermost first:
//
//	Token      a bearer token becomes an Authorization header, before anything logs the URL
//	(logger)   one with Unwrap; one without goes inside of Bypass, and sees nothing of streams
//	Bypass     streams below reach the ResponseWriter and the context that it has itself
//	(timeouts, compression)
//	Origins    foreign pages are kept out
//	Drain      a server that shuts down moves its clients to others
//	Limit      nobody takes more than their share
//	(authentication)
//	(sse.Handler, ws.Handler)
//
// Drain and Limit count whatever passes them: mount them around streams, not around
// everything.
package middleware
