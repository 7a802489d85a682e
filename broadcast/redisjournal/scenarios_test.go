package redisjournal_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/internal/clustertest"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// Several servers and their clients go through what happens to a Redis. The comment of each
// scenario says what the clients may expect.
func TestScenarios(t *testing.T) {
	longtest.Only(t)
	clustertest.Scenarios{
		{"clients ahead of a server whose tail lags", func(t *testing.T) {
			testClientsAhead(t, (*clustertest.Proxy).HalfOpen, func(*clustertest.Proxy) {})
		}},
		{"clients ahead of a server that has no engine", func(t *testing.T) {
			testClientsAhead(t, (*clustertest.Proxy).Hold, (*clustertest.Proxy).Release)
		}},
		{"half-open connections of all servers", testHalfOpenConnections},
		{"hanging engine", testHangingEngine},
		{"planned failover", testPlannedFailover},
		{"split with the old master alive", testSplitWithTheOldMasterAlive},
		{"older copy with COPY", testOlderCopy},
		{"older copy with RESTORE", testOlderDump},
		{"RENAME, there and back", testRename},
		{"older copy while all servers are stopped", testOlderCopyWhileStopped},
		{"durable engine that loses", testDurableEngineThatLoses},
		{"hole", testHole},
		{"many faults", testManyFaults},
	}.Run(t)
}

// lossy is a cluster whose nodes are opened with clients of an engine that may lose entries.
func lossy(open func() *redis.Client) clustertest.Config {
	return clustertest.Config{
		Open: func(*testing.T) (broadcast.Journal, func()) {
			client := open()
			return &redisjournal.Journal{Client: client, Logger: quiet()}, func() { _ = client.Close() }
		},
		Loses: true,
	}
}

// direct opens clients that connect to the server itself.
func (s *server) direct() *redis.Client { return redis.NewClient(&redis.Options{Addr: s.address}) }

// behindProxies returns a cluster in which each node has a network of its own to the server,
// and these networks in the order in which the nodes were started.
func behindProxies(t *testing.T, s *server) (clustertest.Config, *[]*clustertest.Proxy) {
	var proxies []*clustertest.Proxy
	return lossy(func() *redis.Client {
		p := clustertest.NewProxy(t, func() string { return s.address })
		proxies = append(proxies, p)
		return redis.NewClient(&redis.Options{Addr: p.Address})
	}), &proxies
}

// After a planned failover of Sentinel every client goes on, after a gap.
func testPlannedFailover(t *testing.T) {
	engines := startPair(t)
	clustertest.Run(t, lossy(engines.open), func(s *clustertest.Scenario) {
		before := s.Newest()
		engines.failover()
		s.Leaves(before)
		s.Arrives("after the failover")
		s.Following(true)
	})
}

// While an old master goes on beside the one that Sentinel has promoted, every client gets
// what is published on the new one.
func testSplitWithTheOldMasterAlive(t *testing.T) {
	// Sentinel cannot make this master a replica.
	engines := startPair(t, "--rename-command", "SLAVEOF", "split-slaveof")
	clustertest.Run(t, lossy(engines.open), func(s *clustertest.Scenario) {
		before := s.Newest()
		engines.failover()
		s.Leaves(before)
		s.Arrives("although the old master is alive")
		require.Equal(t, "master", engines.master.role())
		engines.master.do("split-slaveof", "127.0.0.1", engines.replica.port())
		s.Published()
		s.Arrives("after the split")
	})
}

// testStreamReplaced checks that clients get a gap when an operator puts an older state of the
// stream in its place, and that no ID is given twice.
func testStreamReplaced(t *testing.T, save, put func(*server)) {
	server := start(t)
	clustertest.Run(t, lossy(server.direct), func(s *clustertest.Scenario) {
		save(server)
		s.Published()
		s.Arrives("after the copy was made")
		put(server)
		s.Arrives("after the copy was put in place")
	})
}

func testOlderCopy(t *testing.T) {
	testStreamReplaced(t,
		func(s *server) { s.do("COPY", "fanfare", "backup") },
		func(s *server) { s.do("COPY", "backup", "fanfare", "REPLACE") })
}

func testOlderDump(t *testing.T) {
	dump := ""
	testStreamReplaced(t,
		func(s *server) { dump = s.do("DUMP", "fanfare").(string) },
		func(s *server) { s.do("RESTORE", "fanfare", 0, dump, "REPLACE") })
}

func testRename(t *testing.T) {
	testStreamReplaced(t,
		func(s *server) { s.do("RENAME", "fanfare", "backup") },
		func(s *server) { s.do("RENAME", "backup", "fanfare") })
}

// Clients get a gap, and no ID is given twice, when an operator puts an older copy of the stream
// in its place while no server runs.
func testOlderCopyWhileStopped(t *testing.T) {
	server := start(t)
	clustertest.Run(t, lossy(server.direct), func(s *clustertest.Scenario) {
		server.do("COPY", "fanfare", "backup")
		s.Published()
		s.Arrives("after the copy was made")
		s.Stop(0, 1, 2)
		server.do("COPY", "backup", "fanfare", "REPLACE")
		s.Start(0, 1, 2)
		s.Arrives("after the copy was put in place")
	})
}

// Clients get a gap when Redis comes back with an older snapshot, although the nodes were told
// that it loses nothing.
func testDurableEngineThatLoses(t *testing.T) {
	server := start(t)
	c := clustertest.Config{Loses: true, Open: func(*testing.T) (broadcast.Journal, func()) {
		client := server.direct()
		return &redisjournal.Journal{Client: client, Durable: true, Logger: quiet()}, func() { _ = client.Close() }
	}}
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		server.do("SAVE")
		s.Published()
		s.Arrives("after the snapshot")
		server.crash()
		server.run()
		s.Arrives("after the crash")
	})
}

// The gap of entries that were deleted stands in their place, also for clients that have still
// to get what was kept before them.
func testHole(t *testing.T) {
	server := start(t)
	c, proxies := behindProxies(t, server)
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.MoveTo(0)
		s.Arrives("from one server")
		s.Mute(0)
		(*proxies)[0].Hold()
		from := s.Newest().Seq()
		s.Published()
		to := s.Newest().Seq()
		for n := from + 20; n < to-20; n++ {
			server.do("XDEL", "fanfare", fmt.Sprintf("0-%d", n))
		}
		(*proxies)[0].Release()
		s.Unmute()
		s.Arrives("after the hole")
		s.MoveAnywhere()
	})
}

// Clients that are ahead of their server when the engine begins a new epoch get one gap, and
// their position does not go back.
func testClientsAhead(t *testing.T, lag, join func(*clustertest.Proxy)) {
	server := start(t, "--appendonly", "yes")
	c, proxies := behindProxies(t, server)
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.MoveTo(0)
		s.Arrives("from another server")
		s.Mute(1)
		lag((*proxies)[1])
		s.Published()
		s.Arrives("from another server that is ahead")
		s.MoveTo(1)
		s.Subscribed(1)
		server.crash()
		server.run()
		join((*proxies)[1])
		s.Unmute()
		s.Arrives("in the new epoch")
		s.MoveAnywhere()
	})
}

// A server follows until the engine hangs, not any longer, and again when it goes on.
func testHangingEngine(t *testing.T) {
	server := start(t)
	clustertest.Run(t, lossy(server.direct), func(s *clustertest.Scenario) {
		s.Following(true)
		s.EngineAway()
		require.NoError(t, server.process.Process.Signal(syscall.SIGSTOP))
		s.Following(false)
		require.NoError(t, server.process.Process.Signal(syscall.SIGCONT))
		s.EngineBack()
		s.Arrives("after the engine hung")
		s.Following(true)
	})
}

// Clients miss nothing, and wait for a few seconds only, when the connections of all servers to
// Redis are half open.
func testHalfOpenConnections(t *testing.T) {
	c, proxies := behindProxies(t, start(t))
	c.Loses = false
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		for _, p := range *proxies {
			p.HalfOpen()
		}
		s.Arrives("after the connections were half open")
		s.Following(true)
	})
}
