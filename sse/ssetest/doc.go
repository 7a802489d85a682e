// Package ssetest tests handlers of Server-Sent Events as their clients see them,
// in memory: [Connect] runs a handler in net/http's own server, without a port,
// and reads its stream.
//
//	func TestNews(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			stream := ssetest.Connect(t, newRouter(), httptest.NewRequest("GET", "/news", nil))
//			time.Sleep(time.Hour) // fake
//			publish("It rains")
//			require.Equal(t, "It rains", string(stream.Next().Data))
//		})
//	}
//
// In a testing/synctest bubble, as here, an hour takes no time, and heartbeats,
// timeouts and expiries can be tested exactly. Outside of one everything works as
// well, in real time. What goes wrong on the way is in package faults.
//
// [Diagnose] finds what in a router's middleware would break a stream.
package ssetest
