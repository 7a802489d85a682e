package redisjournal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// replicate makes a server the replica of another, and waits until it has what that
// one has.
func replicate(t *testing.T, replica, master *server) {
	t.Helper()
	replica.do("REPLICAOF", "127.0.0.1", master.port())
	require.Eventually(t, func() bool {
		return replica.role() == "slave connected" && replica.last() == master.last()
	}, patience, 5*time.Millisecond)
}

// The replica may lack what the master acknowledged.
func TestFailover(t *testing.T) {
	master, replica := start(t, "--repl-diskless-sync-delay", "0"), start(t)
	ids := add(t, master.journal(), "one", "two")
	replicate(t, replica, master)
	require.Equal(t, ids[0].Epoch(), add(t, master.journal(), "three")[0].Epoch(), "having a replica is no loss")

	j := replica.journal()
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.ErrorContains(t, err, "READONLY")

	replica.do("REPLICAOF", "NO", "ONE")
	four := add(t, j, "four")
	require.NotEqual(t, ids[0].Epoch(), four[0].Epoch())
	require.Equal(t, four[0].Epoch(), add(t, j, "five")[0].Epoch(), "one new epoch")
}

// The master comes back as what it was, without what only it had, and without anybody
// having used the replica in between.
func TestFailback(t *testing.T) {
	one, two := start(t, "--repl-diskless-sync-delay", "0"), start(t, "--repl-diskless-sync-delay", "0")
	j := one.journal()
	add(t, j, "kept")
	replicate(t, two, one)
	two.do("REPLICAOF", "NO", "ONE")
	lost := add(t, j, "lost")
	replicate(t, one, two)
	one.do("REPLICAOF", "NO", "ONE")
	require.NotEqual(t, lost, add(t, j, "new"))
}

// What the first restart has changed is lost as well.
func TestCrashTwiceWithOneSnapshot(t *testing.T) {
	s := start(t, "--dbfilename", "dump.rdb")
	j := s.journal()
	add(t, j, "kept")
	s.do("SAVE")
	given := make(map[broadcast.ID]bool)
	for range 3 {
		for _, id := range add(t, j, "lost", "lost too") {
			require.False(t, given[id], "%v was given twice", id)
			given[id] = true
		}
		s.crash()
		s.run()
	}
}
