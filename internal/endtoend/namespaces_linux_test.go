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

// apart is set in the environment of a process that has namespaces of its own.
const apart = "FANFARE_TEST_APART"

// TestNetworkNamespaces has clients on phones whose network does what real ones do: TCP
// over links between network namespaces, which go down, trickle, and change addresses.
//
// All of it is in another process, which has namespaces of its own, and may do in them
// what root may: nothing is left when it ends.
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
		out, err = inNamespaces(t, syscall.CLONE_NEWNET) // which root may have without being another
	}
	switch {
	case !started(err):
		t.Skipf("no process can have network namespaces of its own here: %v", err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("in namespaces:\n%s", out)
	}
	t.Logf("in namespaces:\n%s", out)
	require.NoError(t, err)
}

// started reports whether a command ran, whatever came of it.
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
