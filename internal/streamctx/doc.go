// Package streamctx is what a request's context carries from middleware to the
// stream that the request becomes. Middleware puts it there, and sse and ws look
// for it; none of them imports another.
//
//   - [Bypass] keeps the server's own ResponseWriter and context, which the stream
//     then uses instead of those of the wrappers in between.
//   - A [Claim] is a stream's access to a request: the writer and the context, which
//     are a Bypass's if one is mounted. [Claim.Take] makes the writer the stream's
//     alone.
//   - A [Hold] counts a request and its streams for one middleware, which learns
//     when all of them have ended, and can end the streams ([End]). A stream makes
//     itself known with [Attach].
//   - [OriginPassed] says that a middleware has checked the request's origin.
//   - A probe ([WithProbe]) answers in place of the stream that its request reaches,
//     to find out what stands in the stream's way.
//
// No lock of this package is held while a function runs that was passed to it.
package streamctx
