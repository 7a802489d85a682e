package redisjournal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// replicate makes a server the replica of another and waits until it is up to date.
func replicate(t *testing.T, replica, master *server) {
	t.Helper()
	replica.do("REPLICAOF", "127.0.0.1", master.port())
	require.Eventually(t, func() bool {
		return replica.role() == "slave connected" && replica.last() == master.last()
	}, patience, 5*time.Millisecond)
}

// A failover begins one new epoch, because the replica may lack what the master acknowledged.
func TestEpochAfterAFailover(t *testing.T) {
	master, replica := start(t, "--repl-diskless-sync-delay", "0"), start(t)
	ids := add(t, master.journal(), "one", "two")
	replicate(t, replica, master)
	require.Equal(t, ids[0].Epoch(), add(t, master.journal(), "three")[0].Epoch(), "a new replica is not a loss")

	j := replica.journal()
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.ErrorContains(t, err, "READONLY")

	replica.do("REPLICAOF", "NO", "ONE")
	four := add(t, j, "four")
	require.NotEqual(t, ids[0].Epoch(), four[0].Epoch())
	require.Equal(t, four[0].Epoch(), add(t, j, "five")[0].Epoch(), "one new epoch")
}

// A master that became a replica, lost what only it had, and is the master again, has a new
// epoch, although nobody has used the other server in between.
func TestEpochAfterAFailback(t *testing.T) {
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
