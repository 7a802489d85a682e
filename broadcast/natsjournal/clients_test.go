package natsjournal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/clustertest"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// Clients of several servers miss nothing while the engine is restarted, twice in the long form.
func TestClients(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	restarts := []func(*testing.T){func(*testing.T) { e.restart() }}
	if longtest.Enabled() {
		restarts = append(restarts, restarts[0])
	}
	clustertest.Test(t, clustertest.Config{
		Open: func(*testing.T) (broadcast.Journal, func()) {
			conn := e.connect()
			return journal(conn), conn.Close
		},
		Faults: restarts,
	})
}

// Clients of several servers get a gap when the stream is deleted.
func TestClientsOfALossyEngine(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	js := admin(t, e.connect())
	clustertest.Test(t, clustertest.Config{
		Open: func(*testing.T) (broadcast.Journal, func()) {
			conn := e.connect()
			return journal(conn), conn.Close
		},
		Faults: []func(*testing.T){func(t *testing.T) { require.NoError(t, js.DeleteStream(within(t), "fanfare")) }},
		Loses:  true,
	})
}

// Clients of several servers miss nothing while the leader of the stream, in a cluster of
// three, is restarted; in the long form twice.
func TestClientsOfACluster(t *testing.T) {
	longtest.Only(t)
	t.Parallel()
	engines := startCluster(t)
	var urls []string
	for _, e := range engines {
		urls = append(urls, e.ClientURL())
	}
	open := func(t *testing.T) (broadcast.Journal, func()) {
		conn := connect(t, strings.Join(urls, ","))
		j := journal(conn)
		j.Replicas = 3
		return j, conn.Close
	}
	first, stop := open(t)
	defer stop()
	require.Eventually(t, func() bool {
		_, _, err := first.Bounds(t.Context())
		return err == nil
	}, 2*soon, 10*moment, "the cluster is up")
	js := admin(t, connect(t, strings.Join(urls, ",")))
	killLeader := func(t *testing.T) {
		leader := ""
		require.Eventually(t, func() bool {
			s, err := js.Stream(t.Context(), "fanfare")
			if err == nil && s.CachedInfo().Cluster != nil {
				leader = s.CachedInfo().Cluster.Leader
			}
			return leader != ""
		}, soon, moment)
		engines[leader].restart()
	}
	faults := []func(*testing.T){killLeader}
	if clustertest.Long() {
		faults = append(faults, killLeader)
	}
	clustertest.Test(t, clustertest.Config{Open: open, Faults: faults})
}
