package browsers_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// stateSite is a site whose streams of /keys/ begin with all that their topics keep.
type stateSite struct {
	*site
	grants   atomic.Int32
	cutsNext atomic.Bool         // the next stream that gets topic b is cut before it hears of that
	want     map[string]string   // the values, by topic/key
	events   map[string][]string // of each topic
	numbers  int
}

func newStateSite(t *testing.T) *stateSite {
	s := &stateSite{want: map[string]string{}, events: map[string][]string{}}
	s.site = newSite(t, func(mux *http.ServeMux, hub *broadcast.Hub) {
		silent := slog.New(slog.DiscardHandler)
		var change func(topics []string) (*fanfare.Grant, error)
		change = func(topics []string) (*fanfare.Grant, error) {
			if slices.Contains(topics, "b") && s.cutsNext.Swap(false) {
				s.cut()
			}
			return &fanfare.Grant{Topics: topics, Change: change}, nil
		}
		grant := func(r *http.Request) (*fanfare.Grant, error) {
			s.grants.Add(1)
			g, err := change(r.URL.Query()["topic"])
			g.Beginning = true
			return g, err
		}
		mux.Handle("GET /keys/ws", s.counted(&ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent}))
		mux.Handle("GET /keys/events", s.counted(&sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent}))
	})
	return s
}

// counted counts the streams of a handler as the site's.
func (s *stateSite) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.streams.Add(1)
		defer s.streams.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// cut closes all connections.
func (s *site) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// set publishes a value of a key, "" for none.
func (s *stateSite) set(topic, key, value string) {
	s.put(broadcast.Message{Topic: topic, Key: key, Data: []byte(value), Removed: value == ""})
	if s.want[topic+"/"+key] = value; value == "" {
		delete(s.want, topic+"/"+key)
	}
}

// say publishes an event.
func (s *stateSite) say(topic string) {
	s.numbers++
	text := fmt.Sprint("event ", s.numbers)
	s.publishTo(topic, text)
	s.events[topic] = append(s.events[topic], text)
}

// some changes keys and says something.
func (s *stateSite) some(topic string, n int) {
	for i := range n {
		s.numbers++
		s.set(topic, fmt.Sprint("key ", s.numbers%37), fmt.Sprint("value ", s.numbers))
		if i%5 == 0 {
			s.set(topic, fmt.Sprint("key ", (s.numbers+11)%37), "")
			s.say(topic)
		}
	}
}

// shows waits until a tab shows the values and the events of topics.
func (s *stateSite) shows(p *tab, topics ...string) {
	s.t.Helper()
	want, events := map[string]string{}, []string{}
	for name, value := range s.want {
		if slices.ContainsFunc(topics, func(topic string) bool { return len(name) > len(topic) && name[:len(topic)+1] == topic+"/" }) {
			want[name] = value
		}
	}
	for _, topic := range topics {
		events = append(events, s.events[topic]...)
	}
	keys, err := json.Marshal(want)
	require.NoError(s.t, err)
	texts, err := json.Marshal(events)
	require.NoError(s.t, err)
	p.until(fmt.Sprintf("((want, events) => Object.keys(want).length === Object.keys(values).length && Object.keys(want).every((key) => values[key] === want[key]) && "+
		"JSON.stringify([...got].sort()) === JSON.stringify(events.sort()))(%s, %s)", keys, texts))
}

// transports are the options for each transport alone.
var transports = []string{"transports: ['ws']", "transports: ['sse']", "transports: ['sse'], headers: { 'X-A': 'b' }", "transports: ['poll']"}

// A page that clears its map where its stream begins has the values of the server, whatever
// happens: at the start, over a cut, after a loss. When the topic ends, no stream returns.
func TestPageShowsTheState(t *testing.T) { inEach(t, pageShowsTheState) }

func pageShowsTheState(t *testing.T, e *engine) {
	s := newStateSite(t)
	s.some("a", 50)
	var tabs []*tab
	all := func() {
		t.Helper()
		for _, p := range tabs {
			s.shows(p, "a")
		}
	}
	for _, options := range transports {
		p := s.open(t, e)
		p.run("fanfare({ ws: '/keys/ws', sse: '/keys/events', topics: ['a'], " + options + " })")
		tabs = append(tabs, p)
	}
	all()
	s.some("a", 50)
	all()
	for _, p := range tabs {
		require.Equal(t, []string{""}, evaluate[[]string](p, "begun"), "whole, and once")
	}

	s.site.cut()
	s.some("a", 100)
	all()
	s.kill()
	s.start()
	s.some("a", 30)
	all()
	for _, p := range tabs {
		require.Len(t, evaluate[[]string](p, "begun"), 1, "a stream that resumes does not begin")
	}

	s.kill()
	s.journal.Recreate()
	s.want, s.events = map[string]string{}, map[string][]string{}
	s.start()
	s.some("a", 30)
	all()
	for _, p := range tabs {
		require.GreaterOrEqual(t, len(evaluate[[]string](p, "begun")), 2)
		require.NotContains(t, evaluate[[]string](p, "got"), "gap")
	}

	s.put(broadcast.Message{Topic: "a", End: true, Data: []byte("bye")})
	s.events["a"] = append(s.events["a"], "bye")
	all()
	for _, p := range tabs {
		p.until("ended === 1 && stream.state === 'closed'")
		require.Empty(t, evaluate[[]string](p, "errors"))
	}
	s.eventuallyStreams(0)
	grants := s.grants.Load()
	require.Never(t, func() bool { return s.grants.Load() != grants }, 1500*time.Millisecond, 50*time.Millisecond, "none returns")

	// A page that comes back to the end hears of it again.
	at := evaluate[string](tabs[0], "stream.lastEventId")
	for i, p := range tabs {
		p.run(fmt.Sprintf("refusals.length = 0; fanfare({ ws: '/keys/ws', sse: '/keys/events', topics: ['a'], lastEventId: %q, %s })", at, transports[i]))
		p.until("ended === 2 && stream.state === 'closed'")
		require.Empty(t, evaluate[[]int](p, "refusals"))
	}
}

// A stream that is cut between setTopics and the answer begins, and so lacks nothing of the new
// topics.
func TestCutBeforeTopicsAreAnswered(t *testing.T) { inEach(t, cutBeforeTopicsAreAnswered) }

func cutBeforeTopicsAreAnswered(t *testing.T, e *engine) {
	s := newStateSite(t)
	s.some("a", 20)
	s.some("b", 20)
	for _, options := range transports {
		p := s.open(t, e)
		p.run("fanfare({ ws: '/keys/ws', sse: '/keys/events', topics: ['a'], " + options + " })")
		s.shows(p, "a")
		s.cutsNext.Store(true)
		p.run("stream.setTopics(['a', 'b'])")
		s.shows(p, "a", "b")
		require.False(t, s.cutsNext.Load(), options)
		s.some("b", 5)
		s.some("a", 5)
		s.shows(p, "a", "b")
		require.Empty(t, evaluate[[]string](p, "errors"))
		p.close()
	}
}

// A tab that joins others begins once, with the state of the leader, and follows that. When the
// topic ends, all tabs do.
func TestJoiningTabShowsTheState(t *testing.T) { inEach(t, joiningTabShowsTheState) }

func joiningTabShowsTheState(t *testing.T, e *engine) {
	s := newStateSite(t)
	s.some("a", 60)
	const options = "fanfare({ ws: '/keys/ws', sse: '/keys/events', topics: ['a'], shared: 'user-17' })"
	first := s.open(t, e)
	first.run(options)
	s.shows(first, "a")
	s.some("a", 20)
	s.shows(first, "a")
	tabs := []*tab{first}
	for range 2 {
		p := s.open(t, e)
		p.run(options)
		s.shows(p, "a")
		require.Equal(t, []string{""}, evaluate[[]string](p, "begun"), "whole, and once")
		tabs = append(tabs, p)
		s.oneLeads(t, tabs...)
		s.some("a", 20)
		for _, p := range tabs {
			s.shows(p, "a")
		}
	}
	s.kill()
	s.start()
	s.some("a", 20)
	leader := s.oneLeads(t, tabs...)
	for _, p := range tabs {
		s.shows(p, "a")
	}
	tabs[leader].close()
	left := without(tabs, leader)
	s.some("a", 20)
	for _, p := range left {
		s.shows(p, "a")
	}
	s.oneLeads(t, left...)
	s.put(broadcast.Message{Topic: "a", End: true, Data: []byte("bye")})
	for _, p := range left {
		p.until("ended === 1 && stream.state === 'closed'")
		require.Empty(t, evaluate[[]string](p, "errors"))
	}
	s.eventuallyStreams(0)
}
