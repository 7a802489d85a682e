// Package faults breaks the network between a client and a server, for tests: the
// client stops reading, a peer vanishes, the connection is cut in the middle of a
// message, the link is slow, or a proxy holds responses back.
//
// A [Link] is a connection in memory that does all of that on command. [Via] sends a
// request over it; give what Via returns to ssetest.Connect or wstest.Dial:
//
//	var link faults.Link
//	stream := ssetest.Connect(t, handler, faults.Via(request, &link))
//	link.Stall() // from now on the client reads nothing
//
// [Buffer] and [Compress] put a proxy in front of a handler that buffers or compresses
// its responses.
//
// In a testing/synctest bubble all of it takes fake time.
package faults
