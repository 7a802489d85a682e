//go:build !unix

package tcp

import "net"

// Detach returns c: this system has no writes that do not block.
func Detach(c net.Conn) net.Conn { return c }
