//go:build !unix

package tcp

import "net"

// Detached is not used: this system has no writes that do not block.
type Detached struct{}

// Detach returns c.
func (*Detached) Detach(c net.Conn) net.Conn { return c }
