package natsjournal_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
	"github.com/fanfare-go/fanfare/internal/clustertest"
)

// servers are three engines of a cluster between which the network can fail.
type servers struct {
	t       *testing.T
	engines [3]*engine
	routes  [3][3]*clustertest.Proxy // from one to another
}

// startServers starts a cluster of three, in which a server reaches each other one through a
// network of its own, and waits until it has a leader.
func startServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{t: t}
	var addresses [3]string
	for i := range addresses {
		l := reserve(t)
		addresses[i] = l.Addr().String()
		require.NoError(t, l.Close())
	}
	for i := range s.engines {
		var routes []*url.URL
		for k := range s.engines {
			if i != k {
				s.routes[i][k] = clustertest.NewProxy(t, func() string { return addresses[k] })
				routes = append(routes, &url.URL{Scheme: "nats", Host: s.routes[i][k].Address})
			}
		}
		_, port, _ := net.SplitHostPort(addresses[i])
		s.engines[i] = startEngine(t, func(o *server.Options) {
			o.ServerName = fmt.Sprint("server", i)
			o.Cluster = server.ClusterOpts{Name: "cluster", Host: "127.0.0.1"}
			_, _ = fmt.Sscan(port, &o.Cluster.Port)
			o.Cluster.Advertise = "127.0.0.1:1" // no route but those above
			o.Routes = routes
		})
	}
	return s
}

// urls returns those of all servers, or of some.
func (s *servers) urls(which ...int) string {
	if which == nil {
		which = []int{0, 1, 2}
	}
	var urls []string
	for _, i := range which {
		urls = append(urls, s.engines[i].ClientURL())
	}
	return strings.Join(urls, ",")
}

// anywhere lets any node connect to any server.
func (s *servers) anywhere(int) string { return s.urls() }

// open returns a cluster of nodes on a stream, each connected to the servers that are its own.
func (s *servers) open(name string, urls func(node int) string) clustertest.Config {
	node := 0
	return clustertest.Config{Open: func(t *testing.T) (broadcast.Journal, func()) {
		conn, err := nats.Connect(urls(node), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
			nats.ReconnectJitter(0, 0), nats.IgnoreDiscoveredServers())
		require.NoError(t, err)
		node++
		j := journal(conn)
		j.Stream, j.Replicas = name, 3
		return j, conn.Close
	}}
}

// create creates a stream and returns the number of its leader.
func (s *servers) create(name string) (leader int) {
	s.t.Helper()
	j := &natsjournal.Journal{Conn: connect(s.t, s.urls()), Stream: name, Replicas: 3, MaxBytes: 64 << 20}
	require.Eventually(s.t, func() bool {
		_, _, err := j.Bounds(s.t.Context())
		return err == nil
	}, 2*soon, 10*moment, "the cluster is up")
	return s.leader(name)
}

// leader waits until a stream has a leader and all replicas, and returns the leader's number.
func (s *servers) leader(name string) (leader int) {
	s.t.Helper()
	js := admin(s.t, connect(s.t, s.urls()))
	require.Eventually(s.t, func() bool {
		stream, err := js.Stream(s.t.Context(), name)
		if err != nil || stream.CachedInfo().Cluster == nil || len(stream.CachedInfo().Cluster.Replicas) != 2 {
			return false
		}
		for _, replica := range stream.CachedInfo().Cluster.Replicas {
			if !replica.Current || replica.Offline {
				return false
			}
		}
		n, err := fmt.Sscanf(stream.CachedInfo().Cluster.Leader, "server%d", &leader)
		return err == nil && n == 1
	}, 2*soon, 10*moment, "stream %s has a leader and two replicas", name)
	return leader
}

// isolate breaks the routes between a server and the others, which each find a majority again
// if they can.
func (s *servers) isolate(i int) {
	for k := range s.engines {
		if i != k {
			s.routes[i][k].Cut()
			s.routes[k][i].Cut()
		}
	}
}

// join mends what isolate broke.
func (s *servers) join(i int) {
	for k := range s.engines {
		if i != k {
			s.routes[i][k].Release()
			s.routes[k][i].Release()
		}
	}
}

// stop stops all servers, and returns copies of their disks.
func (s *servers) stop() (disks []string) {
	for _, e := range s.engines {
		e.stop()
	}
	for _, e := range s.engines {
		disks = append(disks, e.backup())
	}
	return disks
}

func (s *servers) start() {
	for _, e := range s.engines {
		e.start()
	}
}

// Clients miss nothing while an operator changes on how many servers the stream is.
func testReplicas(t *testing.T) {
	s := startServers(t)
	s.create("replicas")
	js := admin(t, connect(t, s.urls()))
	clustertest.Run(t, s.open("replicas", s.anywhere), func(sc *clustertest.Scenario) {
		for _, n := range []int{1, 3} {
			stream, err := js.Stream(within(t), "replicas")
			require.NoError(t, err)
			config := stream.CachedInfo().Config
			config.Replicas = n
			_, err = js.UpdateStream(within(t), config)
			require.NoError(t, err)
			sc.Crash(n - 1)
			sc.Start(n - 1) // one that looks at the stream anew
			sc.Following(true)
			sc.Arrives(fmt.Sprint("with another number of replicas, ", n))
		}
	})
}

// Clients get a gap, and no ID is given twice, when all servers of a cluster and of the journal
// fail together, and the cluster comes back without its last entries.
func testPowerLossOfACluster(t *testing.T) {
	long(t)
	s := startServers(t)
	s.create("power")
	c := s.open("power", s.anywhere)
	c.Loses = true
	clustertest.Run(t, c, func(sc *clustertest.Scenario) {
		written := s.stop()
		s.start()
		s.leader("power")
		sc.Arrives("after the restart")
		sc.Published()
		sc.Arrives("that will be lost")
		s.stop()
		sc.Crash(0, 1, 2)
		for i, e := range s.engines {
			e.restore(written[i])
		}
		s.start()
		s.leader("power")
		sc.Start(0, 1, 2)
		sc.Arrives("after the power is back")
	})
}

// long skips a scenario that waits for elections, unless the long form of the tests runs.
func long(t *testing.T) {
	t.Helper()
	if !clustertest.Long() {
		t.Skip("elections take too long: see -cluster.messages")
	}
}

// A leader that is cut off from the others answers for a while as if it were still one. Clients
// that are ahead of it get no gap because of that, and their position does not go back.
func testIsolatedLeader(t *testing.T) {
	long(t)
	s := startServers(t)
	leader := s.create("isolated")
	others := []int{(leader + 1) % 3, (leader + 2) % 3}
	c := s.open("isolated", func(node int) string {
		if node == 0 {
			return s.urls(leader)
		}
		return s.urls(others...)
	})
	clustertest.Run(t, c, func(sc *clustertest.Scenario) {
		sc.MoveTo(1)
		sc.Arrives("from the others")
		sc.Mute(0)
		s.isolate(leader)
		sc.Published()
		sc.Arrives("from those who have elected another leader")
		sc.MoveTo(0)
		sc.Subscribed(0)
		sc.Settled()
		s.join(leader)
		sc.Unmute()
		sc.Arrives("after the leader is back")
		sc.MoveAnywhere()
	})
}
