package tcp

import (
	"syscall"
)

const tcpNotSentLowat = 0x19 // TCP_NOTSENT_LOWAT, missing from package syscall

func setUnsent(c syscall.Conn, bytes int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// If the kernel refuses the option, its default stays.
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, bytes)
	})
}
