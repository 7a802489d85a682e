// Package wstest tests WebSocket handlers as their clients see them, in memory:
// [Dial] runs a handler in net/http's own server, without a port, and connects to
// it. [Pipe] is a connection's two ends, for code that is given one.
//
// In a testing/synctest bubble time is fake, so that pings, timeouts and expiries
// can be tested exactly and at once. What goes wrong on the way is in package
// faults. [Diagnose] finds what in a router's middleware would break a WebSocket.
package wstest
