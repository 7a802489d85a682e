package redisjournal_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// sentinel is a Sentinel that watches a master by itself.
type sentinel struct {
	t       *testing.T
	address string
	admin   *redis.Client
}

func startSentinel(t *testing.T, master *server) *sentinel {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &sentinel{t: t, address: free.Addr().String()}
	require.NoError(t, free.Close())
	_, port, _ := net.SplitHostPort(s.address)
	dir := t.TempDir()
	config := filepath.Join(dir, "sentinel.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "port %s\nbind 127.0.0.1\ndir %s\nlogfile %s\nsentinel monitor main 127.0.0.1 %s 1\n"+
		"sentinel down-after-milliseconds main 500\n", port, dir, filepath.Join(dir, "log"), master.port()), 0o600))
	process := exec.Command(master.program, config, "--sentinel")
	require.NoError(t, process.Start())
	s.admin = redis.NewClient(&redis.Options{Addr: s.address})
	t.Cleanup(func() {
		s.admin.Close()
		_ = process.Process.Signal(syscall.SIGKILL)
		_ = process.Wait()
	})
	require.Eventually(t, func() bool { return s.admin.Ping(t.Context()).Err() == nil }, patience, 5*time.Millisecond, "Sentinel does not start")
	s.do("SENTINEL", "DEBUG", "INFO-PERIOD", 100, "PING-PERIOD", 50, "ASK-PERIOD", 50, "PUBLISH-PERIOD", 100)
	return s
}

func (s *sentinel) do(args ...any) {
	s.t.Helper()
	require.NoError(s.t, s.admin.Do(s.t.Context(), args...).Err(), "%v", args)
}

func (s *sentinel) journal() *redisjournal.Journal {
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{s.address}, ClientName: "sentinel"})
	s.t.Cleanup(func() { client.Close() })
	return &redisjournal.Journal{Client: client, Logger: quiet()}
}

// testSwitch checks that Hubs of which one publishes and the other only listens go over to the
// new master.
func testSwitch(t *testing.T, s *sentinel, old *server, change func()) {
	publisher, listener := run(t, s.journal()), run(t, s.journal())
	before, err := publisher.Publish(t.Context(), broadcast.Message{Topic: "t", Data: []byte("before")})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return listener.Stats().Position == before }, patience, time.Millisecond)

	change()
	other := s.journal()
	var ids []broadcast.ID
	require.Eventually(t, func() bool {
		ids, err = other.Append(t.Context(), broadcast.Message{Topic: "t", Data: []byte("after")})
		return err == nil && ids[0].Epoch() != before.Epoch()
	}, 2*patience, 10*time.Millisecond, "no Append reaches the new master")
	for _, hub := range []*broadcast.Hub{publisher, listener} {
		require.Eventually(t, func() bool { return hub.Stats().Position == ids[0] }, patience, 10*time.Millisecond,
			"a tail stays on the old master")
	}
	require.Eventually(t, func() bool { return old.connections("sentinel") == 0 }, patience, 10*time.Millisecond, "connections stay on the old master")
}

// A planned failover takes the tails to the new master.
func TestTailAfterAPlannedFailover(t *testing.T) {
	longtest.Only(t)
	one, two := start(t, "--repl-diskless-sync-delay", "0"), start(t, "--repl-diskless-sync-delay", "0")
	s := startSentinel(t, one)
	add(t, one.journal(), "one")
	replicate(t, two, one)
	testSwitch(t, s, one, func() {
		// Sentinel refuses as long as it knows no replica, and gives up a failover that takes too
		// long.
		require.Eventually(t, func() bool {
			master, err := s.admin.Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main").StringSlice()
			if err == nil && len(master) == 2 && master[1] == two.port() {
				return true
			}
			_ = s.admin.Do(t.Context(), "SENTINEL", "FAILOVER", "main").Err()
			return false
		}, 3*patience, 50*time.Millisecond, "Sentinel does not change the master")
	})
}

// When Sentinel has another master, the tails go there although the old one is alive and a
// master as before, and although nothing announces the switch.
func TestTailAfterASplit(t *testing.T) {
	longtest.Only(t)
	one, two := start(t, "--repl-diskless-sync-delay", "0"), start(t)
	s := startSentinel(t, one)
	add(t, one.journal(), "one")
	replicate(t, two, one)
	testSwitch(t, s, one, func() {
		two.do("REPLICAOF", "NO", "ONE")
		s.do("SENTINEL", "REMOVE", "main")
		s.do("SENTINEL", "MONITOR", "main", "127.0.0.1", two.port(), 1)
	})
	require.Equal(t, "master", one.role())
}

// A tail leaves a Redis at once when Append of the same Journal has reached another one, which
// an address may lead to.
func TestTailAfterAppendReachedAnotherEngine(t *testing.T) {
	one, two := start(t), start(t)
	var address atomic.Pointer[string]
	address.Store(&one.address)
	client := redis.NewClient(&redis.Options{PoolSize: 1, Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", *address.Load())
	}})
	t.Cleanup(func() { client.Close() })
	j := &redisjournal.Journal{Client: client, Logger: quiet()}
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "one"), "one")
	own, err := client.ClientID(t.Context()).Result()
	require.NoError(t, err)
	address.Store(&two.address)
	one.do("CLIENT", "KILL", "ID", own)
	var ids []broadcast.ID
	require.Eventually(t, func() (added bool) {
		var err error
		ids, err = j.Append(t.Context(), broadcast.Message{Topic: "t", Data: []byte("two")})
		return err == nil
	}, patience, time.Millisecond)
	require.ErrorContains(t, f.fails(), "another Redis")
	follow(t, j, broadcast.ID{}).yields(ids, "two")
}

// A tail ends when its master becomes a replica, also if Durable is set, and Append is refused.
func TestTailOfAReplica(t *testing.T) {
	t.Parallel()
	one, two := start(t, "--repl-diskless-sync-delay", "0"), start(t)
	for _, durable := range []bool{false, true} {
		j := &redisjournal.Journal{Client: one.client("node"), Durable: durable, Logger: quiet()}
		ids := add(t, j, "one")
		f := follow(t, j, broadcast.MakeID(ids[0].Epoch(), ids[0].Seq()-1))
		f.yields(ids, "one")
		one.do("REPLICAOF", "127.0.0.1", two.port())
		require.NotErrorIs(t, f.fails(), context.Canceled, "the tail stays on the replica")
		require.ErrorContains(t, follow(t, j, ids[0]).fails(), "READONLY")
		_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		one.do("REPLICAOF", "NO", "ONE")
	}
}
