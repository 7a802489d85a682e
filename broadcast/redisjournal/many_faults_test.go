package redisjournal_test

import (
	"testing"

	"github.com/fanfare-go/fanfare/internal/clustertest"
)

// Faults of Redis, of the network and of servers in a random order: clients get what they miss,
// or a gap.
func testManyFaults(t *testing.T) {
	server := start(t)
	c, proxies := behindProxies(t, server)
	each := func(f func(*clustertest.Proxy)) {
		for _, p := range *proxies {
			f(p)
		}
	}
	clustertest.Run(t, c, func(s *clustertest.Scenario) {
		s.Faults(append(clustertest.ServerFaults(), []clustertest.Fault{
			{Name: "Redis crashes and loses everything", Do: func(*clustertest.Scenario) { server.crash(); server.run() }},
			{Name: "Redis crashes and has an older snapshot", Do: func(s *clustertest.Scenario) {
				server.do("SAVE")
				s.Published()
				server.crash()
				server.run()
			}},
			{Name: "the stream is deleted", Do: func(*clustertest.Scenario) { server.do("DEL", "fanfare") }},
			{Name: "the stream is trimmed", Do: func(*clustertest.Scenario) { server.do("XTRIM", "fanfare", "MAXLEN", 10) }},
			{Name: "an older copy replaces the stream", Do: func(s *clustertest.Scenario) {
				server.do("COPY", "fanfare", "backup", "REPLACE")
				s.Published()
				server.do("COPY", "backup", "fanfare", "REPLACE")
			}},
			{Name: "connections are killed", Do: func(*clustertest.Scenario) { server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") }},
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
