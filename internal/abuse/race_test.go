//go:build race

package abuse_test

// raced says that the race detector runs, with which a ping takes ten times as long.
const raced = true
