package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain makes the test's binary run main in the processes that the test starts.
func TestMain(m *testing.M) {
	if os.Getenv("ROLLING_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestRestartsLoseNothing(t *testing.T) {
	s := scenario{clients: 20, restarts: 2, rate: 50, spread: time.Second}
	require.NoError(t, s.run(t.Context()))
}
