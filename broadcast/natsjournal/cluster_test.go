package natsjournal_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// startCluster starts a cluster of three servers.
func startCluster(t *testing.T) map[string]*engine {
	t.Helper()
	names := []string{"a", "b", "c"}
	var ports []int
	var routes []*url.URL
	for range names {
		l := reserve(t) // each needs the ports of the others
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		require.NoError(t, l.Close())
	}
	engines := make(map[string]*engine)
	for i, name := range names {
		engines[name] = startEngine(t, func(o *server.Options) {
			o.ServerName = name
			o.Cluster = server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: ports[i]}
			o.Routes = routes
		})
	}
	return engines
}

// clustered returns the journal of a new node in a cluster, connected to the servers with these
// names, once the cluster is up.
func clustered(t *testing.T, engines map[string]*engine, names ...string) *natsjournal.Journal {
	t.Helper()
	var urls []string
	for _, name := range names {
		urls = append(urls, engines[name].ClientURL())
	}
	conn, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.DontRandomize(), nats.IgnoreDiscoveredServers())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	j := journal(conn)
	j.Replicas = 3
	require.Eventually(t, func() bool {
		_, _, err := j.Bounds(t.Context())
		return err == nil
	}, 2*soon, 10*moment, "the cluster is up")
	return j
}

func leader(t *testing.T, j *natsjournal.Journal) string {
	t.Helper()
	return stream(t, admin(t, j.Conn)).CachedInfo().Cluster.Leader
}

// Messages that are published while the stream changes its leader arrive: Append waits for the
// new one as long as its context lasts.
func TestClusterThatChangesItsLeader(t *testing.T) {
	longtest.Only(t)
	t.Parallel()
	engines := startCluster(t)
	j := clustered(t, engines, "a", "b", "c")
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "first"), "first")
	var ids []broadcast.ID
	var texts []string
	for round := range 2 {
		_, err := j.Conn.Request("$JS.API.STREAM.LEADER.STEPDOWN.fanfare", nil, soon)
		require.NoError(t, err)
		for n := range 20 {
			text := fmt.Sprint(round, " ", n)
			ids, texts = append(ids, add(t, j, text)...), append(texts, text)
		}
	}
	f.yields(ids, texts...)
}

// A stream that gets more replicas or fewer is followed on.
func TestClusterThatChangesReplicas(t *testing.T) {
	t.Parallel()
	engines := startCluster(t)
	j := clustered(t, engines, "a", "b", "c")
	f := follow(t, j, broadcast.ID{})
	first := add(t, j, "first")
	f.yields(first, "first")
	js := admin(t, j.Conn)
	for _, replicas := range []int{1, 3} {
		edit(t, js, func(c *jetstream.StreamConfig) { c.Replicas = replicas })
		require.NoError(t, j.Conn.ForceReconnect()) // the tail looks at the stream
		ids := add(t, j, fmt.Sprint(replicas))
		require.Equal(t, first[0].Epoch(), ids[0].Epoch())
		f.yields(ids, fmt.Sprint(replicas))
	}
}

// A leader that is cut off from its replicas answers for some seconds with what it had. Bounds
// does not take that for an answer: it is an error until there is a leader with a majority.
func TestClusterWithAnIsolatedLeader(t *testing.T) {
	longtest.Only(t)
	t.Parallel()
	engines := startCluster(t)
	all := clustered(t, engines, "a", "b", "c")
	f := follow(t, all, broadcast.ID{})
	ids := add(t, all, "first")
	f.yields(ids, "first")
	isolated := leader(t, all)
	j := clustered(t, engines, isolated)
	for name := range engines {
		if name != isolated {
			engines[name].stop()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, _, err := j.Bounds(ctx)
	require.Error(t, err)
	for name := range engines {
		if name != isolated {
			engines[name].start()
		}
	}
	require.Eventually(t, func() bool {
		_, newest, err := j.Bounds(t.Context())
		return err == nil && newest == ids[0]
	}, 2*soon, 10*moment)
}

// While the leader of the stream stops, every node yields each acknowledged message exactly
// once, or a gap, and none that was not published.
func TestClusterWithoutItsLeader(t *testing.T) {
	longtest.Only(t)
	t.Parallel()
	engines := startCluster(t)
	var journals []*natsjournal.Journal
	for _, names := range [][]string{{"a", "b", "c"}, {"b", "c", "a"}, {"c", "a", "b"}} {
		journals = append(journals, clustered(t, engines, names...))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*soon)
	defer cancel()
	nodes := make([]yielded, len(journals))
	var followers sync.WaitGroup
	for i, j := range journals {
		followers.Go(func() { nodes[i].collect(ctx, t, j) })
	}
	p := publishings{acknowledged: make(map[string]broadcast.ID), unpublished: make(map[string]bool)}
	const each = 600
	halfway := make(chan struct{})
	var appenders sync.WaitGroup
	for i, j := range journals {
		appenders.Go(func() {
			for n := range each {
				if i == 0 && n == each/3 {
					close(halfway)
				}
				p.publish(ctx, j, fmt.Sprint(i, " ", n))
			}
		})
	}
	<-halfway
	engines[stream(t, admin(t, journals[0].Conn)).CachedInfo().Cluster.Leader].stop()
	appenders.Wait()
	require.Eventually(t, func() bool {
		_, err := journals[0].Append(ctx, message("end"))
		return err == nil
	}, 4*soon, moment)
	followers.Wait()

	require.Greater(t, len(p.acknowledged), 2*each)
	for i := range nodes {
		t.Logf("%d acknowledged, %d not published, %d unknown; node %d: %d gaps", len(p.acknowledged), len(p.unpublished),
			3*each-len(p.acknowledged)-len(p.unpublished), i, nodes[i].gaps)
		nodes[i].check(t, i, &p)
	}
}

// publishings is what became of messages, by text.
type publishings struct {
	mu           sync.Mutex // guards the fields below
	acknowledged map[string]broadcast.ID
	unpublished  map[string]bool
}

// publish appends a message, and repeats that for a while if it was not published, as while
// there is no leader.
func (p *publishings) publish(ctx context.Context, j broadcast.Journal, text string) {
	ids, err := j.Append(ctx, message(text))
	for again := 0; errors.Is(err, broadcast.ErrNotPublished) && again < 100 && ctx.Err() == nil; again++ {
		<-time.After(moment)
		ids, err = j.Append(ctx, message(text))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.acknowledged[text] = ids[0]
	case errors.Is(err, broadcast.ErrNotPublished):
		p.unpublished[text] = true
	}
}

// yielded is what the Tail of one node has yielded.
type yielded struct {
	messages []broadcast.Message
	gaps     int
}

// collect follows a journal up to the message "end".
func (y *yielded) collect(ctx context.Context, t *testing.T, j broadcast.Journal) {
	last := broadcast.ID{}
	for m, err := range resumed(ctx, j, &last) {
		if err != nil {
			y.gaps++
		} else {
			assert.True(t, last.IsZero() || m.ID == broadcast.MakeID(last.Epoch(), last.Seq()+1), "%v after %v", m.ID, last)
		}
		last = m.ID
		y.messages = append(y.messages, m)
		if string(m.Data) == "end" {
			return
		}
	}
}

// check checks what a node has yielded: unless there was a gap, each acknowledged message
// once.
func (y *yielded) check(t *testing.T, node int, p *publishings) {
	count := make(map[string]int)
	for _, m := range y.messages {
		text := string(m.Data)
		count[text]++
		if id, ok := p.acknowledged[text]; ok {
			require.Equal(t, id, m.ID, "%s at node %d", text, node)
		}
		require.False(t, p.unpublished[text], "%s at node %d, although it was not published", text, node)
	}
	if y.gaps > 0 {
		return
	}
	for text := range p.acknowledged {
		require.Equal(t, 1, count[text], "%s at node %d", text, node)
	}
}

// resumed opens a Tail that has ended again, as Hub.Run does.
func resumed(ctx context.Context, j broadcast.Journal, last *broadcast.ID) func(func(broadcast.Message, error) bool) {
	return func(yield func(broadcast.Message, error) bool) {
		for ctx.Err() == nil {
			for m, err := range j.Tail(ctx, *last) {
				if err != nil && !errors.Is(err, broadcast.ErrGap) {
					break
				}
				if !yield(m, err) {
					return
				}
			}
		}
	}
}
