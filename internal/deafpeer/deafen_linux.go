package deafpeer

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Deafen makes this end of a TCP connection vanish, like a phone that has lost its
// network: it acknowledges nothing any more, and sends no reset. The test is skipped if
// the kernel refuses the filter.
func Deafen(t testing.TB, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var attached error
	require.NoError(t, raw.Control(func(fd uintptr) {
		const ret = 0x06 // BPF_RET with a length of 0: drops each packet
		//lint:ignore SA1019 golang.org/x/net/bpf, named instead, makes filters but cannot attach them to a TCP socket
		attached = syscall.AttachLsf(int(fd), []syscall.SockFilter{{Code: ret}})
	}))
	if attached != nil {
		t.Skipf("this kernel attaches no filter to the socket: %v", attached)
	}
}
