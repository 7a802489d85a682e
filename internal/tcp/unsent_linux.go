package tcp

import (
	"net"
	"syscall"
)

const tcpNotSentLowat = 0x19 // TCP_NOTSENT_LOWAT, which package syscall does not name

func setUnsent(c *net.TCPConn, bytes int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// A kernel that refuses it leaves the connection with its default.
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, bytes)
	})
}
