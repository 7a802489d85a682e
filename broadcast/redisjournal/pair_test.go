package redisjournal_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// pair is a Redis Sentinel with a quorum of one, a master and its replica.
type pair struct {
	t               *testing.T
	address         string
	client          *redis.SentinelClient
	master, replica *server
}

// startPair starts a master with some options, a replica and a sentinel that knows both.
func startPair(t *testing.T, options ...string) *pair {
	t.Helper()
	s := &pair{t: t}
	s.master = start(t, append([]string{"--repl-diskless-sync-delay", "0"}, options...)...)
	s.replica = start(t, "--repl-diskless-sync-delay", "0")
	replicate(t, s.replica, s.master)

	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = free.Addr().String()
	_, port, _ := net.SplitHostPort(s.address)
	require.NoError(t, free.Close())
	dir := t.TempDir()
	config := filepath.Join(dir, "sentinel.conf") // Sentinel writes to it
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "port %s\nbind 127.0.0.1\ndir %s\nlogfile %s\n"+
		"sentinel monitor main 127.0.0.1 %s 1\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000\n",
		port, dir, filepath.Join(dir, "log"), s.master.port()), 0o600))
	process := exec.Command(s.master.program, config, "--sentinel")
	require.NoError(t, process.Start())
	s.client = redis.NewSentinelClient(&redis.Options{Addr: s.address})
	t.Cleanup(func() {
		s.client.Close()
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	require.Eventually(t, func() bool {
		replicas, err := s.client.Replicas(t.Context(), "main").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	}, 2*patience, 20*time.Millisecond, "the sentinel does not find the replica")
	return s
}

// open returns a client that asks the sentinel for the master.
func (s *pair) open() *redis.Client {
	return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{s.address}})
}

// failover has the sentinel promote the replica, as an operator does, and waits until it has.
func (s *pair) failover() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		return s.client.Failover(s.t.Context(), "main").Err() == nil
	}, 2*patience, 100*time.Millisecond, "the sentinel begins no failover")
	require.Eventually(s.t, func() bool {
		address, err := s.client.GetMasterAddrByName(s.t.Context(), "main").Result()
		return err == nil && len(address) == 2 && address[1] == s.replica.port() && s.replica.role() == "master"
	}, 2*patience, 20*time.Millisecond, "the replica does not become the master")
}
