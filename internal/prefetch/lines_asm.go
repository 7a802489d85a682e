//go:build amd64 || arm64

package prefetch

import "unsafe"

// lines asks for the cache lines of 256 bytes from p. It reads nothing, so that p may be any
// address.
//
//go:noescape
func lines(p unsafe.Pointer)
