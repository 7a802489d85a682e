package natsjournal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/clustertest"
)

// Faults of JetStream, of the network and of servers in a random order: clients get what they
// miss, or a gap.
func testManyFaults(t *testing.T) {
	e := startEngine(t)
	js := admin(t, e.connect())
	c, proxies := e.behindProxies()
	c.Loses = true
	each := func(f func(*clustertest.Proxy)) {
		for _, p := range *proxies {
			f(p)
		}
	}
	older := func(s *clustertest.Scenario) (disk string) {
		e.stop()
		disk = e.backup()
		e.start()
		s.Published()
		e.stop()
		return disk
	}
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.Faults(append(clustertest.ServerFaults(), []clustertest.Fault{
			{Name: "the engine is restarted", Do: func(*clustertest.Scenario) { e.restart() }},
			{Name: "the engine has an older disk", Do: func(s *clustertest.Scenario) { e.restore(older(s)); e.start() }},
			{Name: "the engine has an older disk, and all servers crash", Do: func(s *clustertest.Scenario) {
				disk := older(s)
				s.Crash(0, 1, 2)
				e.restore(disk)
				e.start()
				s.Start(0, 1, 2)
			}},
			{Name: "the stream is deleted", Do: func(*clustertest.Scenario) { require.NoError(t, js.DeleteStream(within(t), "fanfare")) }},
			{Name: "the stream is purged", Do: func(*clustertest.Scenario) { require.NoError(t, stream(t, js).Purge(within(t))) }},
			{Name: "the stream is edited", Do: func(*clustertest.Scenario) {
				update(t, js, func(c *jetstream.StreamConfig) { c.MaxAge += time.Hour })
			}},
			{Name: "connections are half open", Do: func(*clustertest.Scenario) { each((*clustertest.Proxy).HalfOpen) }},
			{Name: "connections are cut", Do: func(*clustertest.Scenario) { each((*clustertest.Proxy).Cut); each((*clustertest.Proxy).Release) }},
			{Name: "the network hangs for a moment", Do: func(s *clustertest.Scenario) {
				(*proxies)[0].Hold()
				s.Published()
				(*proxies)[0].Release()
			}},
		}...)...)
	})
}
