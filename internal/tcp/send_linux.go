//go:build linux && !386 && !s390x

package tcp

import (
	"syscall"
	"unsafe"
)

// maxRaw is how many bytes are sent without the scheduler's knowledge: the kernel copies them in
// a few microseconds.
const maxRaw = 16 << 10

// send writes to a socket without blocking, also if somebody has put the socket into blocking
// mode, as the Fd method of an os.File does.
//
// It does not announce the system call to the scheduler, which costs a fifth of a small write.
// That is safe because the call never waits. Until it returns the processor is not handed to
// another thread, and a garbage collection that stops the world waits, as for any code without a
// call for that long: hence maxRaw. b stays where it is: the collector does not move the heap,
// and a goroutine's stack, where b may be, moves only at calls of Go functions.
func send(fd int, b []byte) (n int, err error) {
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	if len(b) == 0 || len(b) > maxRaw {
		return syscall.SendmsgN(fd, b, nil, nil, flags)
	}
	sent, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sent), nil
}
