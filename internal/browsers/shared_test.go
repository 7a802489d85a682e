package browsers_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// alike are the options of tabs that share a link.
const alike = "fanfare({ shared: 'user-17' })"

// openShared opens tabs, and waits until one leads and the others ride.
func (s *site) openShared(t *testing.T, e *engine, n int) (tabs []*tab) {
	t.Helper()
	for range n {
		p := s.open(t, e)
		p.run(alike)
		tabs = append(tabs, p)
	}
	s.oneLeads(t, tabs...)
	return tabs
}

// oneLeads waits until one of the tabs has the only link, and returns it.
func (s *site) oneLeads(t *testing.T, tabs ...*tab) (leader int) {
	t.Helper()
	count := func() (leaders int) {
		for i, p := range tabs {
			if p.is("stream.state === 'open' && stream.transport !== 'shared'") {
				leaders++
				leader = i
			} else if !p.is("stream.state === 'open'") {
				return 0
			}
		}
		return leaders
	}
	for began := time.Now(); count() != 1 || s.streams.Load() != 1; pause(20 * time.Millisecond) {
		require.Less(t, time.Since(began), patience, "%d links, %d streams", count(), s.streams.Load())
	}
	return leader
}

// flow publishes numbers from from up to and without to.
func (s *site) flow(from, to int) {
	for i := from; i < to; i++ {
		s.publish(strconv.Itoa(i))
	}
}

// have waits until tabs have got exactly the numbers up to and without n.
func have(t *testing.T, n int, tabs ...*tab) {
	t.Helper()
	for _, p := range tabs {
		p.until(fmt.Sprintf("got.at(-1) === '%d'", n-1))
		require.Equal(t, numbers(0, n), evaluate[[]string](p, "got"))
	}
}

func without(tabs []*tab, i int) []*tab {
	return append(append([]*tab(nil), tabs[:i]...), tabs[i+1:]...)
}

// Five tabs share one connection. If the tab that has it is closed, another takes over and
// nothing is lost. A message can be sent in any of them.
func TestTabsShareOneConnection(t *testing.T) { inEach(t, tabsShareOneConnection) }

func tabsShareOneConnection(t *testing.T, e *engine) {
	s := newSite(t)
	tabs := s.openShared(t, e, 5)
	s.flow(0, 100)
	have(t, 100, tabs...)
	leader := s.oneLeads(t, tabs...)
	left := without(tabs, leader)
	s.flow(100, 150)
	tabs[leader].close()
	for i := 150; i < 300; i++ {
		s.publish(strconv.Itoa(i))
		if i%10 == 0 {
			evaluate[int](left[0], "got.length") // takes a moment
		}
	}
	have(t, 300, left...)
	s.oneLeads(t, left...)
	left[3].run("stream.send('from any tab')")
	for _, p := range left {
		p.until("got.at(-1) === 'from any tab'")
	}
}

// The leader follows a link and enters the back/forward cache: another tab takes over at once.
// After Back the page goes on from its position.
func TestLeaderEntersTheCache(t *testing.T) { inEach(t, leaderEntersTheCache) }

func leaderEntersTheCache(t *testing.T, e *engine) {
	s := newSite(t)
	tabs := s.openShared(t, e, 3)
	s.flow(0, 10)
	have(t, 10, tabs...)
	leader := s.oneLeads(t, tabs...)
	left := without(tabs, leader)
	tabs[leader].run("window.kept = true")
	tabs[leader].navigate(s.url("/other"))
	s.flow(10, 30)
	have(t, 30, left...)
	s.oneLeads(t, left...)

	tabs[leader].back()
	tabs[leader].until("window.stream || window.loaded")
	if !tabs[leader].is("window.kept") {
		require.NotEqual(t, "chromium", e.name, "the page was not in the cache")
		t.Logf("%s does not cache the page", e.name)
		return
	}
	tabs[leader].until("got.length === 30")
	s.flow(30, 40)
	have(t, 40, tabs...)
	s.oneLeads(t, tabs...)
}

// A leader that is busy answers nobody: the others connect within the silence. Once it answers
// again, all share a link as before, and nobody gets a message twice. Only time in which the other
// page runs counts: it may share a thread with the busy one.
func TestLeaderIsBusy(t *testing.T) { inEach(t, leaderIsBusy) }

func leaderIsBusy(t *testing.T, e *engine) {
	s := newSite(t)
	var tabs []*tab
	for range 2 {
		p := s.open(t, e)
		p.run("fanfare({ shared: 'user-17', ws: '/soak/ws', sse: '/soak/events', silence: 6000 })")
		tabs = append(tabs, p)
	}
	leader := s.oneLeads(t, tabs...)
	other := tabs[1-leader]
	s.flow(0, 5)
	have(t, 5, tabs...)
	// The script returns first, since some drivers wait for all pages.
	tabs[leader].run("setTimeout(() => { for (const end = Date.now() + 15000; Date.now() < end; ); }, 100)")
	other.run("states.length = 0; window.began = ticks; stream.onmessage = ({ data }) => { got.push(data); window.heardAfter ??= 100 * (ticks - began); }")
	for began := time.Now(); time.Since(began) < 300*time.Millisecond; pause(50 * time.Millisecond) {
	}
	s.flow(5, 6)
	have(t, 6, other)
	require.Less(t, evaluate[float64](other, "heardAfter"), 13_000.0, "states %v", evaluate[[]string](other, "states"))
	s.flow(6, 10)
	have(t, 10, tabs...)
	s.oneLeads(t, tabs...)
}

// Tabs of two users, with the same URLs, never share.
func TestUsersDoNotShare(t *testing.T) { inEach(t, usersDoNotShare) }

func usersDoNotShare(t *testing.T, e *engine) {
	s := newSite(t)
	ann, bob := s.open(t, e), s.open(t, e)
	ann.run("fanfare({ shared: 'ann', ws: '/ws?user=ann', sse: undefined })")
	bob.run("fanfare({ shared: 'bob', ws: '/ws?user=ann', sse: undefined })")
	for _, p := range []*tab{ann, bob} {
		p.until("stream.transport === 'ws'")
	}
	require.Never(t, func() bool { return s.streams.Load() != 2 }, time.Second, 50*time.Millisecond, "two streams")
}

// A tab that joins gets the state of its Grant, its Snapshot and Last, as the first tab did.
func TestJoiningTabGetsState(t *testing.T) { inEach(t, joiningTabGetsState) }

func joiningTabGetsState(t *testing.T, e *engine) {
	s := newSite(t)
	const options = "fanfare({ shared: 'user-17', ws: '/state/ws', sse: '/state/events' })"
	first := s.open(t, e)
	first.run(options)
	first.until("got.at(-1) === 'snapshot'")
	s.flow(0, 3)
	first.until("got.at(-1) === '2'")
	second := s.open(t, e)
	second.run(options)
	second.until("got.length === 4")
	require.Equal(t, []string{"snapshot", "0", "1", "2"}, ordered(evaluate[[]string](second, "got")))
	s.oneLeads(t, first, second)
	s.flow(3, 6)
	for _, p := range []*tab{first, second} {
		p.until("got.at(-1) === '5'")
		require.Equal(t, []string{"snapshot", "0", "1", "2", "3", "4", "5"}, ordered(evaluate[[]string](p, "got")))
	}
}

// ordered puts the snapshot first, which a Grant sends before or after Last.
func ordered(got []string) []string {
	out := []string{"snapshot"}
	for _, text := range got {
		if text != "snapshot" {
			out = append(out, text)
		}
	}
	return out
}

// setTopics in a tab changes what that tab gets, and not what others get.
func TestTopicsAreEachTabsOwn(t *testing.T) { inEach(t, topicsAreEachTabsOwn) }

func topicsAreEachTabsOwn(t *testing.T, e *engine) {
	s := newSite(t)
	var tabs []*tab
	for range 3 {
		p := s.open(t, e)
		p.run("fanfare({ shared: 'user-17', ws: '/topics/ws', sse: '/topics/events', topics: ['a'] })")
		tabs = append(tabs, p)
	}
	leader := s.oneLeads(t, tabs...)
	follower := (leader + 1) % 3
	tabs[follower].run("stream.setTopics(['b'])")
	tabs[follower].until("stream.state === 'open' && stream.transport !== 'shared'")
	s.publishTo("a", "for a")
	s.publishTo("b", "for b")
	for i, p := range tabs {
		want := "for a"
		if i == follower {
			want = "for b"
		}
		p.until("got.length === 1")
		require.Equal(t, []string{want}, evaluate[[]string](p, "got"))
	}
	// What the leader changes is its own, too. It has its topics once it hears of them; it
	// may get "for b" then, which came after the last ID that it knows.
	tabs[leader].run("stream.setTopics(['b'])")
	require.Eventually(t, func() bool {
		s.publishTo("b", "it is b")
		return evaluate[bool](tabs[leader], "got.at(-1) === 'it is b'")
	}, patience, 50*time.Millisecond)
	s.eventuallyStreams(2)
	s.publishTo("a", "more a")
	s.publishTo("b", "more b")
	third := 3 - leader - follower
	tabs[third].until("got.at(-1) === 'more a'")
	for _, i := range []int{leader, follower} {
		tabs[i].until("got.at(-1) === 'more b'")
		require.Equal(t, "it is b", evaluate[string](tabs[i], "got.at(-2)"))
	}
	require.Equal(t, []string{"for a", "more a"}, evaluate[[]string](tabs[third], "got"))
	require.NotContains(t, evaluate[[]string](tabs[follower], "got"), "for a")
}

// A page that reloads at each gap reloads once, also if it joins with a position.
func TestJoiningTabIsToldNoGap(t *testing.T) { inEach(t, joiningTabIsToldNoGap) }

func joiningTabIsToldNoGap(t *testing.T, e *engine) {
	s := newSite(t)
	first := s.open(t, e)
	first.run("fanfare({ shared: 'user-17' })")
	first.until("stream.state === 'open'")
	s.flow(0, 20)
	have(t, 20, first)
	s.hub.Stats()
	second := s.open(t, e)
	second.run(fmt.Sprintf("fanfare({ shared: 'user-17', lastEventId: %q })", evaluate[string](first, "ids[4]")))
	second.until("got.at(-1) === '19'")
	require.Equal(t, numbers(5, 20), evaluate[[]string](second, "got"))
	s.oneLeads(t, first, second)
	s.flow(20, 25)
	second.until("got.at(-1) === '24'")
	require.Equal(t, numbers(5, 25), evaluate[[]string](second, "got"))
}

// Where the browser refuses channels, each tab has a connection of its own, and no error.
func TestChannelsAreRefused(t *testing.T) { inEach(t, channelsAreRefused) }

func channelsAreRefused(t *testing.T, e *engine) {
	s := newSite(t)
	for _, refuse := range []string{
		"window.BroadcastChannel = class { constructor() { throw new DOMException('x', 'SecurityError'); } }",
		"window.BroadcastChannel = undefined",
		"BroadcastChannel.prototype.postMessage = () => { throw new DOMException('closed', 'InvalidStateError'); }",
		"BroadcastChannel.prototype.postMessage = () => {}",
		"Object.defineProperty(navigator, 'locks', { get() { throw new DOMException('x', 'SecurityError'); } })",
		"Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('x', 'SecurityError'); } })",
	} {
		p := s.open(t, e)
		p.run(refuse)
		p.run(alike)
		p.until("stream.state === 'open'")
		p.run("stream.send('here')")
		p.until("got.at(-1) === 'here'")
		p.run("stream.send('there')")
		p.until("got.at(-1) === 'there'")
		require.Empty(t, evaluate[[]string](p, "errors"), refuse)
		p.close()
	}
	// An opaque origin.
	p := e.open(t, s.url("/sandboxed"))
	p.until("window.framed === 'hello'")
	require.Empty(t, evaluate[[]string](p, "errors"))
}
