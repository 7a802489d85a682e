// Package endtoend_test runs the whole kit, over TCP and over networks that break.
package endtoend_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	topics     = 10
	publishers = 8
	clients    = 400 // half of them begin on each transport
	perRound   = 100
)

// messages returns how many messages are published.
func messages() int {
	if longtest.Enabled() {
		return 20_000
	}
	return 5_000
}

// A client that is cut at random, and resumes on either transport with the last ID it saw,
// gets each message once and in order, or a gap where messages are missing.
func TestEveryMessageOnceOrAGap(t *testing.T) {
	t.Run("no gap while the Hub keeps everything", func(t *testing.T) {
		run := deliver(t, &broadcast.Hub{Keep: messages()})
		assert.Zero(t, run.gaps, "gaps although everything was kept")
		assert.Positive(t, run.cuts)
	})
	t.Run("gaps while the Hub keeps hardly anything", func(t *testing.T) {
		run := deliver(t, &broadcast.Hub{Keep: 8})
		assert.Positive(t, run.gaps)
	})
}

// run is one run of the test.
type run struct {
	url     string
	history *history
	ready   sync.WaitGroup // until each client's first stream has begun

	delivered, cuts, moves, gaps int // sums over all clients, set at the end
}

func deliver(t *testing.T, hub *broadcast.Hub) *run {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	server := httptest.NewServer(routes(hub, asked, sse.Options{}, ws.Options{Compression: true}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()

	run := &run{url: server.URL, history: &history{hub: hub}}
	run.ready.Add(clients)
	var reading sync.WaitGroup
	all := make([]*client, clients)
	for i := range all {
		all[i] = newClient(run, i)
		reading.Go(func() { all[i].follow(ctx) })
	}
	run.ready.Wait()
	run.publish(ctx, t)
	reading.Wait()
	for _, c := range all {
		require.NoError(t, c.problem)
		require.NoError(t, c.check(c.history))
		run.delivered += c.delivered
		run.cuts += c.cuts
		run.moves += c.moves
		run.gaps += c.gaps
	}
	t.Logf("%d deliveries, %d cuts, %d of them followed by the other transport, %d gaps", run.delivered, run.cuts, run.moves, run.gaps)
	require.NoError(t, hub.Close())
	return run
}

// publish publishes from several goroutines at once, and then a message of type "end" on
// each topic. It does so in rounds, so that clients are cut and resume in between.
func (r *run) publish(ctx context.Context, t *testing.T) {
	put := func(topic int, typ string) {
		lines := 0
		if rand.N(50) == 0 {
			lines = 100 // long enough to be deflated
		}
		assert.NoError(t, r.history.publish(ctx, "topic "+strconv.Itoa(topic), typ, lines))
	}
	rounds := time.NewTicker(5 * time.Millisecond)
	defer rounds.Stop()
	for range messages() / perRound {
		<-rounds.C
		var publishing sync.WaitGroup
		for range publishers {
			publishing.Go(func() {
				for range perRound / publishers {
					put(rand.N(topics), "")
				}
			})
		}
		for range perRound % publishers {
			put(rand.N(topics), "")
		}
		publishing.Wait()
	}
	for topic := range topics {
		put(topic, "end")
	}
}

// client is a subscriber that cuts its own connections.
type client struct {
	subscriber
	run         *run
	socket      bool // the next connection is a WebSocket
	cuts, moves int
	problem     error
}

func newClient(r *run, i int) *client {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	var names []string
	for _, topic := range rng.Perm(topics)[:1+rng.IntN(2)] {
		names = append(names, "topic "+strconv.Itoa(topic))
	}
	s := subscriber{record: newRecord(strconv.Itoa(i), names, ""), history: r.history, http: http.DefaultClient, url: r.url, rng: rng}
	return &client{subscriber: s, run: r, socket: i%2 == 0}
}

// follow reads until each topic has ended, with a new connection after each cut.
func (c *client) follow(ctx context.Context) {
	var once sync.Once
	ready := func() { once.Do(c.run.ready.Done) }
	defer ready()
	for {
		c.problem = c.connect(ctx, ready)
		if c.problem != nil || c.done() {
			return
		}
		c.cuts++
		if c.rng.IntN(2) == 0 {
			c.socket = !c.socket
			c.moves++
		}
	}
}

// connect opens a connection and reads some messages from it. It calls ready after the
// first.
func (c *client) connect(ctx context.Context, ready func()) error {
	s, err := c.attempt(c.socket)(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(c.read(s, 1)); err != nil {
		return err
	}
	ready()
	return errors.Join(c.read(s, c.rng.IntN(1500)))
}
