//go:build race

package abuse_test

// raced reports whether the race detector is on. With it a ping takes ten times as long.
const raced = true
