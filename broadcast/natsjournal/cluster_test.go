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
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// startCluster starts a cluster of three servers.
func startCluster(t *testing.T) map[string]*engine {
	t.Helper()
	names := []string{"a", "b", "c"}
	var ports []int
	var routes []*url.URL
	for range names {
		l, err := net.Listen("tcp", "127.0.0.1:0") // each needs the ports of the others
		require.NoError(t, err)
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

// While the leader of the stream stops, every node yields each acknowledged message exactly
// once, or a gap, and none that was not published.
func TestClusterWithoutItsLeader(t *testing.T) {
	engines := startCluster(t)
	node := func(name string) *natsjournal.Journal {
		urls := []string{engines[name].ClientURL()}
		for _, e := range engines {
			urls = append(urls, e.ClientURL())
		}
		j := journal(connect(t, strings.Join(urls, ",")))
		j.Replicas = 3
		return j
	}
	journals := []*natsjournal.Journal{node("a"), node("b"), node("c")}
	require.Eventually(t, func() bool {
		_, _, err := journals[0].Bounds(t.Context())
		return err == nil
	}, 2*soon, 10*moment, "the cluster is up")

	tails := make([][]broadcast.Message, len(journals))
	gaps := make([]int, len(journals))
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	var followers, appenders sync.WaitGroup
	for i, j := range journals {
		followers.Go(func() {
			last := broadcast.ID{}
			for m, err := range resumed(ctx, j, &last) {
				if err != nil {
					gaps[i]++
				} else {
					assert.True(t, last.IsZero() || m.ID == broadcast.MakeID(last.Epoch(), last.Seq()+1), "%v after %v", m.ID, last)
				}
				last = m.ID
				tails[i] = append(tails[i], m)
				if string(m.Data) == "end" {
					return
				}
			}
		})
	}

	const each = 1500
	var mu sync.Mutex
	acknowledged := make(map[string]broadcast.ID)
	unpublished := make(map[string]bool)
	halfway := make(chan struct{})
	for i, j := range journals {
		appenders.Go(func() {
			for n := range each {
				if i == 0 && n == each/3 {
					close(halfway)
				}
				text := fmt.Sprint(i, " ", n)
				ids, err := j.Append(ctx, message(text))
				for again := 0; errors.Is(err, broadcast.ErrNotPublished) && again < 100; again++ {
					<-time.After(moment) // until there is a new leader
					ids, err = j.Append(ctx, message(text))
				}
				mu.Lock()
				switch {
				case err == nil:
					acknowledged[text] = ids[0]
				case errors.Is(err, broadcast.ErrNotPublished):
					unpublished[text] = true
				}
				mu.Unlock()
			}
		})
	}
	<-halfway
	engines[stream(t, admin(t, journals[0].Conn)).CachedInfo().Cluster.Leader].stop()
	appenders.Wait()
	require.Eventually(t, func() bool {
		_, err := journals[0].Append(ctx, message("end"))
		return err == nil
	}, soon, moment)
	followers.Wait()

	t.Logf("%d acknowledged, %d not published, %d unknown, gaps %v", len(acknowledged), len(unpublished),
		3*each-len(acknowledged)-len(unpublished), gaps)
	require.Greater(t, len(acknowledged), 2*each)
	for i, tail := range tails {
		count := make(map[string]int)
		for _, m := range tail {
			count[string(m.Data)]++
			if id, ok := acknowledged[string(m.Data)]; ok {
				require.Equal(t, id, m.ID, "node %d", i)
			}
			require.False(t, unpublished[string(m.Data)], "node %[2]d yielded %[1]s", m.Data, i)
		}
		if gaps[i] > 0 {
			continue
		}
		for text := range acknowledged {
			require.Equal(t, 1, count[text], "%s at node %d", text, i)
		}
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
