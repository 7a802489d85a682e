package watch

import (
	"os"
	"syscall"
	"time"
)

// What a socket can be watched for. Each of them includes an error of the socket. Bytes that
// nobody reads are no event for HangUp.
const (
	HangUp   Events = syscall.EPOLLRDHUP                   // the peer has ended the connection, or its half of it
	Readable Events = syscall.EPOLLIN | syscall.EPOLLRDHUP // something has come, or HangUp
)

// edge makes the kernel report each event once. Package syscall has it with a sign.
const edge = 1 << 31

// poller is an epoll instance. The runtime's poller, an epoll instance too, watches it, so
// that no thread is blocked while nothing happens.
type poller struct {
	file *os.File
	raw  syscall.RawConn
	poll func(fd uintptr) bool // made once, so that a wait allocates nothing

	// Owned by the goroutine that waits.
	events [batch]syscall.EpollEvent
	n      int
	err    error
}

// newPoller returns a poller, or nil if the kernel gives none.
func newPoller() *poller {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	_ = syscall.SetNonblock(fd, true) // which makes os.NewFile use the runtime's poller
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	p.poll = func(fd uintptr) bool {
		p.n, p.err = syscall.EpollWait(int(fd), p.events[:], 0)
		return p.n > 0 || p.err != nil && p.err != syscall.EINTR
	}
	p.raw, err = p.file.SyscallConn()
	if err != nil || p.file.SetReadDeadline(time.Time{}) != nil {
		p.close()
		return nil
	}
	return p
}

// wait waits for events and returns how many there are, and their tokens; 0 once p is closed.
func (p *poller) wait(tokens *[batch]Token) int {
	if p.raw.Read(p.poll) != nil || p.err != nil {
		return 0
	}
	for i, event := range p.events[:p.n] {
		tokens[i] = Token(uint32(event.Pad))<<32 | Token(uint32(event.Fd))
	}
	return p.n
}

// add adds a socket. It reports false if the kernel refuses that.
func (p *poller) add(socket syscall.RawConn, events Events, token Token) bool {
	event := syscall.EpollEvent{Events: uint32(events) | edge, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32))}
	return p.control(socket, syscall.EPOLL_CTL_ADD, &event)
}

// remove removes a socket. One that is closed was removed by the kernel.
func (p *poller) remove(socket syscall.RawConn) {
	p.control(socket, syscall.EPOLL_CTL_DEL, new(syscall.EpollEvent))
}

// control reports whether an operation of epoll has succeeded. While it lasts, neither of
// the two descriptors can be closed and become another's.
func (p *poller) control(socket syscall.RawConn, operation int, event *syscall.EpollEvent) bool {
	err := syscall.EBADF
	_ = socket.Control(func(fd uintptr) {
		_ = p.raw.Control(func(epoll uintptr) {
			err, _ = syscall.EpollCtl(int(epoll), operation, int(fd), event).(syscall.Errno)
		})
	})
	return err == 0
}

// close ends the wait.
func (p *poller) close() { _ = p.file.Close() }
