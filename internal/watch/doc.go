// Package watch learns from the kernel that a socket can be read or that its peer has
// left. One goroutine watches all sockets of a handler: a goroutine for each would take
// more memory than the rest of an idle stream.
//
// It works on Linux. On other systems nothing can be watched.
package watch
