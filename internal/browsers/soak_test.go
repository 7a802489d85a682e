package browsers_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

var (
	soakFor   = flag.Duration("soak.for", 0, "how long TestSoak runs in each browser; 0: three events")
	soakLimit = flag.Duration("soak.limit", time.Minute, "how long a tab may be silent, of the time in which its page runs; on a machine that does nothing else, its silence and 5 s are 11s")
	soakSeed  = flag.Uint64("soak.seed", 0, "the seed of TestSoak; 0: a new one")
)

// soakKind is what the streams of a soak are like.
type soakKind struct {
	shared bool // the tabs share a link
	begins bool // the streams have keys and beginnings
}

// soak is a run of random events against three tabs.
type soak struct {
	*site
	t      *testing.T
	e      *engine
	random *rand.Rand
	soakKind
	tabs  []*tab
	lives []int // of each tab's page: how often it has begun anew
	next  int   // the next number to publish
	did   []string
}

// Whatever happens to pages, servers and networks, each tab gets each message once and in order,
// or a gap, or begins anew. A tab whose streams have beginnings gets no gap, and has the newest value
// of each key. None is silent for longer than its silence and 5 s after that.
func TestSoak(t *testing.T) { inEach(t, soakBrowser) }

func soakBrowser(t *testing.T, e *engine) {
	for _, kind := range []soakKind{{}, {shared: true}, {begins: true}, {shared: true, begins: true}} {
		seed := *soakSeed
		if seed == 0 {
			seed = rand.Uint64()
		}
		t.Logf("%+v: -soak.seed %d", kind, seed)
		s := &soak{site: newSite(t), t: t, e: e, soakKind: kind, random: rand.New(rand.NewPCG(seed, 0))}
		s.run()
	}
}

func (s *soak) run() {
	for range 3 {
		p := s.open(s.t, s.e)
		s.tabs = append(s.tabs, p)
		s.lives = append(s.lives, 0)
		s.begin(p)
	}
	began := time.Now()
	for i := 0; i < 3 || time.Since(began) < *soakFor/4; i++ {
		s.step()
		if s.t.Failed() {
			return
		}
	}
	s.t.Logf("%d events, %d messages", len(s.did), s.next)
	for _, p := range s.tabs {
		p.close()
	}
}

// begin starts a stream in a page. Its heartbeats are the site's; its silence is 6 s.
func (s *soak) begin(p *tab) {
	options := "silence: 6000, retry: 100, maxRetry: 500, good: 600, patience: 2000, upgrade: 1000"
	if s.shared {
		options += ", shared: 'soak'"
	}
	query := ""
	if s.begins {
		query = "?begins"
	}
	p.run(fmt.Sprintf("fanfare({ ws: '/soak/ws%s', sse: '/soak/events%s', %s })", query, query, options))
}

const soakKeys = 7

func (s *soak) some(n int) {
	for range n {
		s.publish(strconv.Itoa(s.next))
		if s.begins {
			s.put(broadcast.Message{Topic: "a", Key: strconv.Itoa(s.next % soakKeys), Data: []byte(strconv.Itoa(s.next))})
		}
		s.next++
	}
}

// step lets something happen, and then checks that all tabs have everything.
func (s *soak) step() {
	i := s.random.IntN(len(s.tabs))
	p := s.tabs[i]
	event := s.random.IntN(9)
	s.did = append(s.did, fmt.Sprintf("%d: event %d, tab %d", s.next, event, i))
	s.some(s.random.IntN(20))
	switch event {
	case 0: // follow a link and come back
		p.navigate(s.url("/other"))
		s.some(10)
		pause(time.Duration(s.random.IntN(500)) * time.Millisecond)
		p.back()
		p.until("window.stream || window.loaded === true")
		if !p.is("window.stream") {
			s.begin(p)
		}
	case 1: // reload
		p.navigate(s.url("/page"))
		s.begin(p)
	case 2:
		if s.e.name == "chromium" {
			require.NoError(s.t, p.freeze(true))
			s.some(10)
			require.NoError(s.t, p.freeze(false))
		}
	case 3: // offline, without a word, and back
		s.deafen()
		s.some(10)
		p.run("dispatchEvent(new Event('online'))")
	case 4:
		s.kill()
		pause(time.Duration(s.random.IntN(800)) * time.Millisecond)
		s.start()
	case 5: // cut
		s.cut()
	case 6:
		s.killsWebSockets.Store(true)
		s.cut()
		s.some(10)
		pause(time.Duration(s.random.IntN(2000)) * time.Millisecond)
		s.killsWebSockets.Store(false)
	case 7:
		s.holdsResponses.Store(true)
		s.killsWebSockets.Store(true)
		s.cut()
		s.some(10)
		pause(time.Duration(s.random.IntN(3000)) * time.Millisecond)
		s.holdsResponses.Store(false)
		s.killsWebSockets.Store(false)
	case 8: // busy
		p.run("setTimeout(() => { for (const end = Date.now() + 1500; Date.now() < end; ); }, 0)")
	}
	s.some(5)
	s.check()
}

// hasAll is the condition that a tab has the last message, and the newest value of each key.
func (s *soak) hasAll() string {
	condition := fmt.Sprintf("got.at(-1) === '%d'", s.next-1)
	for n := max(0, s.next-soakKeys); s.begins && n < s.next; n++ {
		condition += fmt.Sprintf(" && values['a/%d'] === '%d'", n%soakKeys, n)
	}
	return condition
}

// check waits until each tab has everything, and verifies what it has got since its page began.
func (s *soak) check() {
	for i, p := range s.tabs {
		s.waitFor(i, p)
		got := evaluate[[]string](p, "got")
		for j := 1; j < len(got); j++ {
			before, err := strconv.Atoi(got[j-1])
			if err != nil || got[j] == "gap" {
				require.False(s.t, s.begins, "a gap: %v", got)
				continue
			}
			require.Equal(s.t, strconv.Itoa(before+1), got[j], "tab %d: %v; %v", i, got[max(0, j-3):j+1], s.lately())
		}
	}
}

// waitFor waits until a tab has everything. Only time in which its page runs counts: a busy machine
// lets none of its timers run.
func (s *soak) waitFor(i int, p *tab) {
	ticks := func() (n int) {
		_ = p.do("WebDriver:ExecuteScript", map[string]any{"script": "return window.ticks ?? 0", "args": []any{}}, &n)
		return n
	}
	first := ticks()
	for began := time.Now(); !p.is(s.hasAll()); pause(20 * time.Millisecond) {
		if p.is("window.stream && stream.state === 'open' && [undefined, 'gap'].includes(got.at(-1))") {
			s.some(1) // it has begun after the last, or has lost it and knows
		}
		ran := time.Duration(ticks()-first) * 100 * time.Millisecond
		if p.is("document.hidden") { // the browser lets its timers run once a minute
			ran = min(time.Since(began), time.Since(began)-70*time.Second+*soakLimit)
		}
		if ran > *soakLimit || time.Since(began) > 10**soakLimit {
			var seen json.RawMessage
			_ = p.do("WebDriver:ExecuteScript", map[string]any{"script": "return { got: window.got?.slice(-5), values: window.values, states: window.states?.map((state, i) => `${state} ${window.times[i]}`).slice(-15), now: performance.now(), state: window.stream?.state, transport: window.stream?.transport, position: window.stream?.lastEventId, hidden: document.hidden }", "args": []any{}}, &seen)
			require.FailNow(s.t, "a tab is silent", "tab %d has not got %d, though its page has run for %v: %s; %v", i, s.next-1, ran, seen, s.lately())
		}
	}
}

// lately is what has happened last.
func (s *soak) lately() []string { return s.did[max(0, len(s.did)-6):] }
