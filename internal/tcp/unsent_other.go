//go:build !linux

package tcp

import "net"

func setUnsent(*net.TCPConn, int) {}
