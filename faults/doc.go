// Package faults is what goes wrong between a client and a server, for tests: a
// client that stops reading, a peer that vanishes, a cut in the middle of a
// message, a slow link, a proxy that holds everything back.
//
// A [Link] is a connection in memory that can do all of that on command. Make a
// request over it with [Via], and give that to ssetest.Connect or wstest.Dial:
//
//	var link faults.Link
//	stream := ssetest.Connect(t, handler, faults.Via(request, &link))
//	link.Stall() // from now on the client reads nothing
//
// [Buffer] and [Compress] stand around a handler as a proxy does that means well.
//
// In a testing/synctest bubble all of it takes fake time.
package faults
