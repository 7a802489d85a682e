package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// cluster is the servers on one engine.
type cluster struct {
	t      *testing.T
	config Config

	// Counted while it runs.
	connections atomic.Int64
	refused     atomic.Int64 // publishes with ErrNotPublished
	unknown     atomic.Int64 // publishes with another error

	mu       sync.Mutex         // guards the fields below
	servers  [servers]*server   // nil: killed
	outcomes map[string]outcome // of publishing, by text
}

// outcome is what Publish returned.
type outcome struct {
	id  broadcast.ID
	err error
}

func startCluster(t *testing.T, c Config) *cluster {
	cl := &cluster{t: t, config: c, outcomes: make(map[string]outcome)}
	for i := range cl.servers {
		cl.start(i)
	}
	return cl
}

// stop ends all servers.
func (cl *cluster) stop() {
	for i := range cl.servers {
		cl.kill(i)
	}
}

// start starts the i-th server.
func (cl *cluster) start(i int) {
	// One server keeps hardly anything, so that it has to read from the engine what clients
	// have missed.
	s := startServer(cl, []int{1024, 1024, 64}[i])
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.servers[i] = s
}

// kill ends the i-th server. To clients it looks like a crash.
func (cl *cluster) kill(i int) {
	cl.mu.Lock()
	s := cl.servers[i]
	cl.servers[i] = nil
	cl.mu.Unlock()
	if s != nil {
		s.stop()
	}
}

// anyServer returns a random server that runs, or nil if there is none.
func (cl *cluster) anyServer() *server {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	var running []*server
	for _, s := range cl.servers {
		if s != nil {
			running = append(running, s)
		}
	}
	if len(running) == 0 {
		return nil
	}
	return running[rand.IntN(len(running))]
}

// address returns the address of a server that runs; if there is none, one where nobody
// listens.
func (cl *cluster) address() string {
	if s := cl.anyServer(); s != nil {
		return s.address
	}
	return "127.0.0.1:1"
}

// position waits until a server knows the position of the log.
func (cl *cluster) position() (position broadcast.ID) {
	require.Eventually(cl.t, func() bool {
		var err error
		position, err = cl.anyServer().hub.Position(cl.t.Context())
		return err == nil && position.Epoch() > 1
	}, time.Minute, time.Millisecond, "no server knows the position of the log")
	return position
}

// lastText is the text of the last message of each topic.
const lastText = "last"

// publish publishes once, on any server, and counts the outcome.
func (cl *cluster) publish(topic, text string) {
	switch err := cl.tryPublish(topic, text); {
	case err == nil:
	case errors.Is(err, broadcast.ErrNotPublished):
		cl.refused.Add(1)
	default:
		cl.unknown.Add(1)
	}
}

// publishLast publishes the last message of each topic, and repeats that until it succeeds.
func (cl *cluster) publishLast() {
	for topic := range topics {
		require.Eventually(cl.t, func() bool { return cl.tryPublish(fmt.Sprint("t", topic), lastText) == nil }, time.Minute, 10*time.Millisecond)
	}
}

func (cl *cluster) tryPublish(topic, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	s := cl.anyServer()
	if s == nil {
		return broadcast.ErrNotPublished
	}
	id, err := s.hub.Publish(ctx, broadcast.Message{Topic: topic, Type: topic, Data: []byte(text)})
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if text != lastText {
		cl.outcomes[text] = outcome{id, err}
	}
	return err
}

// entry is a message that the engine has at the end.
type entry struct {
	id          broadcast.ID
	topic, text string
}

// truth returns all messages that the engine has after a position.
func (cl *cluster) truth(begin broadcast.ID) (all []entry) {
	journal, stop := cl.config.Open(cl.t)
	defer stop()
	ctx, cancel := context.WithTimeout(cl.t.Context(), time.Minute)
	defer cancel()
	_, newest, err := journal.Bounds(ctx)
	require.NoError(cl.t, err)
	if begin.Epoch() != newest.Epoch() {
		begin = broadcast.ID{}
	}
	for m, err := range journal.Tail(ctx, begin) {
		if err != nil {
			require.ErrorIs(cl.t, err, broadcast.ErrGap)
		} else if m.Topic != "" {
			all = append(all, entry{m.ID, m.Topic, string(m.Data)})
		}
		if m.ID.Seq() >= newest.Seq() {
			break
		}
	}
	texts := make(map[string]bool)
	for _, e := range all {
		require.False(cl.t, e.text != lastText && texts[e.text], "%q is in the journal twice", e.text)
		texts[e.text] = true
	}
	return all
}

// checkOutcomes checks that the engine has what was acknowledged, and not what was refused.
func (cl *cluster) checkOutcomes(truth []entry) {
	ids := make(map[string]broadcast.ID, len(truth))
	for _, e := range truth {
		ids[e.text] = e.id
	}
	for text, o := range cl.outcomes {
		id, found := ids[text]
		switch {
		case o.err == nil && !cl.config.Loses:
			assert.Equal(cl.t, o.id, id, "%q was acknowledged", text)
		case errors.Is(o.err, broadcast.ErrNotPublished):
			assert.False(cl.t, found, "%q was refused, but the journal has it: %v", text, o.err)
		}
	}
}
