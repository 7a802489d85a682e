// Package wstest tests WebSocket handlers in memory, as their clients see them. [Dial]
// runs a handler in net/http's server, without a port, and connects to it. [Pipe]
// returns the two ends of a connection, for code that is given one. [Diagnose] finds
// the middleware of a router that would break a WebSocket.
//
// [Values] keeps the newest value of each Key that a ws.Handler sends.
//
// In a testing/synctest bubble time is fake, so that pings, timeouts and expiries can be
// tested exactly and take no time. Package faults breaks the network in between.
package wstest
