// Package tcp reaches what net.Conn hides of a TCP connection: reads and writes that do
// not block, buffers shared between connections, and the socket options that bound how
// long, and how much, the kernel keeps for a peer that does not take it.
package tcp
