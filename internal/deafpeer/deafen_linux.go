package deafpeer

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Deafen lets a TCP connection vanish as a phone does that lost its network:
// nothing that comes is acknowledged any more, and nothing is said about it.
func Deafen(t testing.TB, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var attached error
	require.NoError(t, raw.Control(func(fd uintptr) {
		const ret = 0x06 // of nothing: each packet is dropped
		//lint:ignore SA1019 golang.org/x/net/bpf, named instead, makes filters but attaches none to a TCP socket
		attached = syscall.AttachLsf(int(fd), []syscall.SockFilter{{Code: ret}})
	}))
	if attached != nil {
		t.Skipf("this kernel lets no socket be deaf: %v", attached)
	}
}
