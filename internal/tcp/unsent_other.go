//go:build !linux

package tcp

import "syscall"

func setUnsent(syscall.Conn, int) {}
