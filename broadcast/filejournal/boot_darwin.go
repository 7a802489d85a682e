package filejournal

import (
	"encoding/hex"
	"strings"
	"syscall"
)

// bootID names this start of the machine.
func bootID() (id [16]byte) {
	s, err := syscall.Sysctl("kern.bootsessionuuid")
	if err == nil {
		hex.Decode(id[:], []byte(strings.ReplaceAll(s, "-", "")))
	}
	return id
}
