// Package longtest marks tests that take long, mostly since they wait for time to pass. They run
// where the environment has LONG=1, as .ci/run sets it.
package longtest

import (
	"os"
	"testing"
)

// Enabled reports whether long tests are to run.
func Enabled() bool { return os.Getenv("LONG") != "" }

// Only skips a test unless long tests are to run.
func Only(t testing.TB) {
	t.Helper()
	if !Enabled() {
		t.Skip("takes long: LONG=1 runs it")
	}
}
