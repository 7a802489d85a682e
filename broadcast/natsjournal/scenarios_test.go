package natsjournal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
	"github.com/fanfare-go/fanfare/internal/clustertest"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// Several servers and their clients go through what happens to JetStream. The comment of each
// scenario says what the clients may expect.
func TestScenarios(t *testing.T) {
	longtest.Only(t)
	t.Parallel()
	clustertest.Scenarios{
		{"cluster whose replicas change", testReplicas},
		{"cluster that loses power", testPowerLossOfACluster},
		{"cluster with an isolated leader", testIsolatedLeader},
		{"half-open connection of a server", testOneHalfOpenConnection},
		{"half-open connections of all servers", testHalfOpenConnections},
		{"clients ahead of a server whose connection is half open", func(t *testing.T) {
			testClientsAhead(t, (*clustertest.Proxy).HalfOpen, func(*clustertest.Proxy) {})
		}},
		{"clients ahead of a server that has no engine", func(t *testing.T) {
			testClientsAhead(t, (*clustertest.Proxy).Hold, (*clustertest.Proxy).Release)
		}},
		{"refused authentication", func(t *testing.T) { testRefusedAuthentication(t, true) }},
		{"refused authentication that closes connections", func(t *testing.T) { testRefusedAuthentication(t, false) }},
		{"stopped engine", testStoppedEngine},
		{"unusable stream", testUnusableStream},
		{"power loss", testPowerLoss},
		{"older disk while all servers are stopped", testOlderDisk},
		{"hole", testHole},
		{"many faults", testManyFaults},
		{"operator edits the stream", testOperatorEditsTheStream},
		{"deploy of another MaxAge", testDeployAnotherMaxAge},
		{"orderly restart of everything", testOrderlyRestartOfEverything},
	}.Run(t)
}

// nodes is a cluster whose nodes have a connection of their own, and what a test changes of
// their journals.
func nodes(connect func() *nats.Conn, change ...func(*natsjournal.Journal)) clustertest.Config {
	return clustertest.Config{Open: func(*testing.T) (broadcast.Journal, func()) {
		conn := connect()
		j := journal(conn)
		for _, c := range change {
			c(j)
		}
		return j, conn.Close
	}}
}

// behindProxies returns a cluster in which each node has a network of its own to the engine,
// and these networks in the order in which the nodes were started.
func (e *engine) behindProxies(options ...nats.Option) (clustertest.Config, *[]*clustertest.Proxy) {
	var proxies []*clustertest.Proxy
	address := e.Addr().String() // the same after a restart
	return nodes(func() *nats.Conn {
		p := clustertest.NewProxy(e.t, func() string { return address })
		proxies = append(proxies, p)
		conn, err := nats.Connect("nats://"+p.Address, append([]nats.Option{nats.MaxReconnects(-1)}, options...)...)
		require.NoError(e.t, err)
		return conn
	}), &proxies
}

// update changes the stream as an operator does.
func update(t *testing.T, js jetstream.JetStream, change func(*jetstream.StreamConfig)) {
	t.Helper()
	config := stream(t, js).CachedInfo().Config
	change(&config)
	_, err := js.UpdateStream(within(t), config)
	require.NoError(t, err)
}

// Clients miss nothing when an operator changes settings of the stream that do not change what
// an entry means: neither where the tails look at the stream because nothing is published nor
// where they have to because the engine is restarted.
func testOperatorEditsTheStream(t *testing.T) {
	e := startEngine(t)
	js := admin(t, e.connect())
	clustertest.Run(t, nodes(e.connect), func(s *clustertest.Scenario) {
		update(t, js, func(c *jetstream.StreamConfig) {
			c.MaxAge, c.Duplicates = 2*time.Hour, 2*time.Minute
			c.MaxMsgs, c.MaxBytes, c.MaxMsgSize = 500_000, 32<<20, 1<<20
			c.Description = "ours"
		})
		if clustertest.Long() {
			s.Quiet(s.Settled)
		} else {
			e.restart()
		}
		s.Arrives("after the stream was edited")
		s.Crash(0)
		s.Start(0)
		s.Following(true)
	})
}

// Clients miss nothing while a new version of the program, with another MaxAge, replaces the
// servers one by one.
func testDeployAnotherMaxAge(t *testing.T) {
	e := startEngine(t)
	age := time.Hour
	clustertest.Run(t, nodes(e.connect, func(j *natsjournal.Journal) { j.MaxAge = age }), func(s *clustertest.Scenario) {
		age = 2 * time.Hour
		for i := range 3 {
			s.Stop(i)
			s.Start(i)
			s.Following(true)
			s.Arrives("beside a server with another MaxAge")
		}
	})
}

// While the stream has a setting that changes what an entry means, no server follows or
// publishes; afterwards clients go on and have missed nothing.
func testUnusableStream(t *testing.T) {
	e := startEngine(t)
	js := admin(t, e.connect())
	clustertest.Run(t, nodes(e.connect), func(s *clustertest.Scenario) {
		s.EngineAway()
		update(t, js, func(c *jetstream.StreamConfig) { c.NoAck = true })
		s.Following(false)
		s.Refuses()
		update(t, js, func(c *jetstream.StreamConfig) { c.NoAck = false })
		s.EngineBack()
		s.Arrives("after the stream is usable again")
		s.Following(true)
	})
}

// Clients get a gap, and no ID is given twice, when engine and servers fail together and the
// engine comes back without its last entries.
func testPowerLoss(t *testing.T) {
	e := startEngine(t)
	c := nodes(e.connect)
	c.Loses = true
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		e.stop()
		written := e.backup()
		e.start()
		s.Arrives("after the restart")
		s.Published()
		s.Arrives("that will be lost")
		e.stop()
		s.Crash(0, 1, 2)
		e.restore(written)
		e.start()
		s.Start(0, 1, 2)
		s.Arrives("after the power is back")
	})
}

// Clients get a gap, and no ID is given twice, when an operator stops all servers, gives the
// engine an older disk, and starts everything again.
func testOlderDisk(t *testing.T) {
	e := startEngine(t)
	c := nodes(e.connect)
	c.Loses = true
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		e.stop()
		older := e.backup()
		e.start()
		s.Arrives("after the backup was made")
		s.Published()
		s.Arrives("that are not in the backup")
		s.Stop(0, 1, 2)
		e.stop()
		e.restore(older)
		e.start()
		s.Start(0, 1, 2)
		s.Arrives("after the backup was restored")
	})
}

// Clients miss nothing, and get no gap, when all servers and then the engine are stopped and
// started in an orderly way, with messages on their way.
func testOrderlyRestartOfEverything(t *testing.T) {
	e := startEngine(t)
	clustertest.Run(t, nodes(e.connect), func(s *clustertest.Scenario) {
		s.Stop(0, 1, 2)
		e.restart()
		s.Start(0, 1, 2)
		s.Arrives("after the restart")
	})
}

// Clients miss nothing, and wait for a few seconds only, when the connections of all servers
// to the engine are half open, although nats.go would notice minutes later.
func testHalfOpenConnections(t *testing.T) {
	e := startEngine(t)
	c, proxies := e.behindProxies()
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		for _, p := range *proxies {
			p.HalfOpen()
		}
		s.Arrives("after the connections were half open")
		s.Following(true)
	})
}

// Clients of one server whose connection to the engine is half open miss nothing while the
// other servers publish.
func testOneHalfOpenConnection(t *testing.T) {
	e := startEngine(t)
	c, proxies := e.behindProxies()
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.MoveTo(0)
		s.Arrives("from one server")
		s.Mute(0)
		(*proxies)[0].HalfOpen()
		s.Arrives("after its connection was half open")
		s.Unmute()
		s.MoveAnywhere()
	})
}

// A server whose authentication is refused for a while goes on if its connection does. If
// nats.go has closed the connection for good, which is its default, the server says that it
// does not follow, and refuses to publish.
func testRefusedAuthentication(t *testing.T, heals bool) {
	e := startEngine(t, func(o *server.Options) { o.Username, o.Password = "node", "right" })
	options := []nats.Option{
		nats.UserInfo("node", "right"), nats.ReconnectWait(200 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}
	if heals {
		options = append(options, nats.IgnoreAuthErrorAbort())
	}
	c, _ := e.behindProxies(options...)
	c.Loses = !heals // all servers end at once, and cannot leave word of what they have seen
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.EngineAway()
		e.stop()
		e.options.Password = "wrong"
		e.start()
		s.Following(false)
		if !heals {
			s.Refuses()
		}
		e.stop()
		e.options.Password = "right"
		e.start()
		if !heals {
			s.Crash(0, 1, 2) // as an operator does, who has been told
			s.Start(0, 1, 2)
		}
		s.EngineBack()
		s.Arrives("after the right password is accepted")
		s.Following(true)
	})
}

// The gap of entries that were deleted stands in their place, also for clients that have still
// to get what was kept before them.
func testHole(t *testing.T) {
	e := startEngine(t)
	js := admin(t, e.connect())
	c, proxies := e.behindProxies()
	c.Loses = true
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.MoveTo(0)
		s.Arrives("from one server")
		s.Mute(0)
		(*proxies)[0].Cut()
		from := s.Newest().Seq()
		s.Published()
		to := s.Newest().Seq()
		entries := stream(t, js)
		for n := from + 20; n < to-20; n++ {
			require.NoError(t, entries.DeleteMsg(within(t), n))
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
	e := startEngine(t)
	js := admin(t, e.connect())
	c, proxies := e.behindProxies()
	c.Loses = true
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.MoveTo(0)
		s.Arrives("from another server")
		s.Mute(1)
		lag((*proxies)[1])
		s.Published()
		s.Arrives("from another server that is ahead")
		s.MoveTo(1)
		s.Subscribed(1)
		require.NoError(t, js.DeleteStream(within(t), "fanfare"))
		join((*proxies)[1])
		s.Unmute()
		s.Arrives("in the new epoch")
		s.MoveAnywhere()
	})
}

// A server does not follow an engine that has stopped, and follows again when it is back.
func testStoppedEngine(t *testing.T) {
	e := startEngine(t)
	clustertest.Run(t, nodes(e.connect), func(s *clustertest.Scenario) {
		s.Following(true)
		s.EngineAway()
		e.stop()
		s.Following(false)
		e.start()
		s.EngineBack()
		s.Arrives("after the engine is back")
		s.Following(true)
	})
}
