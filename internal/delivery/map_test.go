package delivery_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// A page that begins, lags, loses, changes its topics and is cut at random has in the end the
// newest value of each Key of a topic that is not partial, and none that is not the newest of any
// other.
func TestMapsAreWholeInTheEnd(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 20
	}
	begins, partial := 0, 0
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			w := newMapWorld(t, seed)
			for range 12 {
				w.visit()
			}
			w.calm = true
			w.publish(3)
			w.visit()
			for _, topic := range w.page.topics {
				has, truth := w.page.values[topic], w.truth[topic]
				for key, value := range has {
					require.Equal(t, truth[key], value, "seed %d: %s in %s is not the newest", seed, key, topic)
				}
				if !w.page.partial[topic] {
					require.Equal(t, slices.Sorted(maps.Keys(truth)), slices.Sorted(maps.Keys(has)), "seed %d: %s", seed, topic)
				}
			}
			begins += w.page.begins
			partial += len(w.page.partial)
			require.NoError(t, w.hub.Close())
		})
	}
	require.Greater(t, begins, 2*seeds)
	require.Positive(t, partial)
}

// mapWorld is a Hub, what it was told, and a page.
type mapWorld struct {
	t      *testing.T
	mu     sync.Mutex // guards random, truth and number while a stream writes
	random *rand.Rand
	hub    *broadcast.Hub
	engine *delivery.Engine
	truth  map[string]map[string]string
	number int
	page   *mapPage
	codec  *delivery.Codec
	calm   bool // nothing fails any more
}

// mapPage is what a page has. It comes back with its position, or without one while it waits for
// the answer to a change of its topics.
type mapPage struct {
	topics   []string // that it wants
	values   map[string]map[string]string
	partial  map[string]bool
	position string
	waits    bool
	begins   int
}

func newMapWorld(t *testing.T, seed uint64) *mapWorld {
	w := &mapWorld{t: t, random: rand.New(rand.NewPCG(seed, 7)), truth: map[string]map[string]string{"a": {}, "b": {}}}
	w.hub = &broadcast.Hub{Keep: 4 + w.random.IntN(20), Values: 30 + w.random.IntN(60)}
	w.page = &mapPage{topics: []string{"a"}}
	w.codec = &delivery.Codec{
		Message: func(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
			b, err := delivery.Envelope(m, id, m.Type, m.Data, m.Binary)
			return append(b, '\n'), err
		},
		Notice: func(n fanfare.Notice) ([]byte, error) { return append(delivery.NoticeEnvelope(n), '\n'), nil },
	}
	w.engine = engine(w.hub, nil)
	w.engine.Grant = func(r *http.Request) (*fanfare.Grant, error) {
		g := &fanfare.Grant{Topics: r.URL.Query()["topic"], Beginning: true}
		g.Change = func(topics []string) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: topics, Change: g.Change}, nil
		}
		return g, nil
	}
	return w
}

// publish publishes n messages: mostly of some Keys, of which a few change all the time.
func (w *mapWorld) publish(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		w.number++
		m := broadcast.Message{Topic: []string{"a", "b"}[w.random.IntN(2)], Data: fmt.Append(nil, w.number)}
		switch w.random.IntN(6) {
		case 0:
			m.First = w.random.IntN(3) == 0
		case 1, 2:
			m.Key = fmt.Sprint("hot", w.random.IntN(3))
		default:
			m.Key, m.Removed = fmt.Sprint("key", w.random.IntN(90)), w.random.IntN(4) == 0
		}
		_, err := w.hub.Publish(w.t.Context(), m)
		require.NoError(w.t, err)
		if m.Key != "" && m.Removed {
			delete(w.truth[m.Topic], m.Key)
		} else if m.Key != "" {
			w.truth[m.Topic][m.Key] = string(m.Data)
		}
	}
}

// upTo returns a random number below n.
func (w *mapWorld) upTo(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

// visit lets the page connect, until it is cut.
func (w *mapWorld) visit() {
	w.publish(w.upTo(120))
	query := "/?"
	for _, topic := range w.page.topics {
		query += "topic=" + topic + "&"
	}
	if !w.page.waits {
		query += "lastEventId=" + w.page.position
	}
	w.page.waits = false
	c := &mapConn{mapWorld: w, ended: make(chan struct{})}
	tr := &transport{mode: delivery.Mode{Codec: w.codec, Detached: true}}
	tr.begin = func(o *delivery.Opening) error { o.Start(c, nil, 0); return nil }
	w.engine.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", query, nil), tr)
	synctest.Wait()
	for range 3 {
		if !w.calm && w.upTo(2) == 0 {
			w.page.topics, w.page.waits = [][]string{{"a"}, {"b"}, {"a", "b"}}[w.upTo(3)], true
			tr.stream.Change(delivery.TopicsRequest{Topics: w.page.topics})
		}
		w.publish(w.upTo(60))
		synctest.Wait()
	}
	c.closes = true
	tr.stream.End(delivery.Restart)
	<-c.ended
}

// takes applies an envelope.
func (p *mapPage) takes(t *testing.T, line []byte) {
	var e struct {
		ID, Ready, Begin, Gap, Position, Key, Data string
		Topic                                      *string
		Topics, Partial                            []string
		Removed                                    bool
	}
	require.NoError(t, json.Unmarshal(line, &e), "%s", line)
	require.Empty(t, e.Gap, "a stream with a Beginning has no gap")
	for _, id := range []string{e.ID, e.Ready, e.Begin, e.Position} {
		if id != "" {
			p.position = id
		}
	}
	switch {
	case e.Begin != "":
		p.begins++
		if e.Topics == nil {
			p.values, p.partial = map[string]map[string]string{}, map[string]bool{}
		}
		for _, topic := range e.Topics {
			delete(p.values, topic)
			delete(p.partial, topic)
		}
		for _, topic := range e.Partial {
			p.partial[topic] = true
		}
	case e.Topic == nil:
		if e.Topics != nil {
			p.waits = false
			for topic := range p.values { // it has left the others
				if !slices.Contains(e.Topics, topic) {
					delete(p.values, topic)
				}
			}
		}
	case e.Removed:
		delete(p.values[*e.Topic], e.Key)
	case e.Key != "":
		if p.values[*e.Topic] == nil {
			p.values[*e.Topic] = map[string]string{}
		}
		p.values[*e.Topic][e.Key] = e.Data
	}
}

// mapConn is a connection to a page. Messages are published while it writes.
type mapConn struct {
	*mapWorld
	ended  chan struct{}
	closes bool
}

func (*mapConn) Beat(*delivery.Worker) error { return nil }
func (*mapConn) Tick() time.Duration         { return 0 }
func (*mapConn) Closing()                    {}
func (*mapConn) Cut()                        {}
func (c *mapConn) End(delivery.Reason)       { close(c.ended) }

func (c *mapConn) Write(frames net.Buffers, w *delivery.Worker) error {
	w.Wait()
	for _, f := range frames {
		if !c.calm && c.upTo(60) == 0 {
			return errors.New("cut")
		}
		c.page.takes(c.t, f)
		if !c.calm && !c.closes && c.upTo(12) == 0 {
			c.publish(c.upTo(25))
		}
	}
	return nil
}
