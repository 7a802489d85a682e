//go:build !linux

package watch

import "syscall"

// What a socket could be watched for.
const (
	HangUp Events = 1 + iota
	Readable
)

// poller is what this system does not have.
type poller struct{}

func newPoller() *poller { return nil }

func (*poller) wait(*[batch]Token) int                  { return 0 }
func (*poller) add(syscall.RawConn, Events, Token) bool { return false }
func (*poller) remove(syscall.RawConn)                  {}
func (*poller) close()                                  {}
