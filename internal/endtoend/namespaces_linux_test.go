package endtoend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// apart is set in the environment of the process that has namespaces of its own.
const apart = "FANFARE_TEST_APART"

// Clients on phones get each message once and in order, or a gap, over TCP links between
// network namespaces that go down, slow down and change addresses.
//
// All of it runs in a process with namespaces of its own, where it has root's rights.
// Nothing is left of them when it ends.
func TestNetworkNamespaces(t *testing.T) {
	if os.Getenv(apart) != "" {
		seed := *faultSeed
		if seed == 0 {
			seed = newSeed()
		}
		t.Logf("-faults.seed=%d", seed)
		newCell(t, seed).live(t)
		return
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("iproute2 is needed: %v", err)
	}
	out, err := inNamespaces(t, syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET)
	if !started(err) {
		out, err = inNamespaces(t, syscall.CLONE_NEWNET) // root needs no user namespace
	}
	switch {
	case !started(err):
		t.Skipf("this machine allows no network namespaces: %v", err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("in namespaces:\n%s", out)
	}
	t.Logf("in namespaces:\n%s", out)
	require.NoError(t, err)
}

// started reports whether a command ran, with success or without.
func started(err error) bool {
	var failed *exec.ExitError
	return err == nil || errors.As(err, &failed)
}

// inNamespaces runs this test in a process with namespaces of its own.
func inNamespaces(t *testing.T, flags uintptr) ([]byte, error) {
	executable, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	test := exec.CommandContext(ctx, executable,
		"-test.run=^TestNetworkNamespaces$", "-test.v", "-test.timeout=50s", fmt.Sprintf("-faults.seed=%d", *faultSeed))
	test.Env = append(os.Environ(), apart+"=1")
	test.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&syscall.CLONE_NEWUSER != 0 {
		test.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		test.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return test.CombinedOutput()
}
