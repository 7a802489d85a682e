//go:build !linux

package tcp

import (
	"syscall"
	"time"
)

func setUserTimeout(syscall.Conn, time.Duration) {}
