// Bench compares fan-out in this kit with other libraries, on the same work, in one
// run: a burst of messages to many subscribers, a steady rate, and idle connections.
//
//	go run . [-quick]
//
// The server and what takes its messages are processes of their own, each pinned to
// one processor. The taker sits on raw epoll and only counts, so that it is not the
// bottleneck. Peers take turns, several rounds, and the median of each figure is
// reported, with the range. Every delivery is counted: a run that lost one says so.
//
// It runs on Linux.
package main
