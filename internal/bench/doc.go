// Bench compares the fan-out of this kit with that of other libraries. All of them do the
// same work in one run: a burst of messages to many subscribers, a steady rate, and idle
// connections.
//
//	go run . [-quick]
//
// The server and its receiver are separate processes, each pinned to one processor. The
// receiver reads with epoll and only counts, so that it is not the bottleneck. The libraries
// take turns for several rounds, and the report has the median and the range of each figure.
// Every delivery is counted, and lost ones are reported.
//
// It runs on Linux only.
package main
