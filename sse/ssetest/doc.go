// Package ssetest tests handlers of Server-Sent Events from their client's side, in
// memory. [Connect] runs a handler in net/http's own server, without a port, and reads
// its stream:
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
// In a testing/synctest bubble, as here, an hour passes at once, so that a test can check
// heartbeats, timeouts and expiries exactly. Outside of a bubble everything works in real
// time. Package faults makes the connection slow, or cuts it.
//
// [Values] keeps the newest value of each Key that a stream sends.
//
// [Diagnose] finds the middleware of a router that would break a stream.
package ssetest
