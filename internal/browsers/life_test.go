package browsers_test

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deafConn is a connection on which nothing that the server writes arrives once it is deaf, as
// behind a router that has lost its state.
type deafConn struct {
	net.Conn
	isDeaf atomic.Bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	if c.isDeaf.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

type deafListener struct{ net.Listener }

func (l deafListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &deafConn{Conn: c}, nil
}

// deafen makes all connections deaf that are open now.
func (s *site) deafen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c, ok := c.(*deafConn); ok {
			c.isDeaf.Store(true)
		}
	}
}

// A site with a stream on each page goes on loading over HTTP/1.1, though pages stay in the
// back/forward cache. After Back, a page has what it missed.
func TestPagesLetGoOfTheirConnections(t *testing.T) { inEach(t, pagesLetGoOfTheirConnections) }

func pagesLetGoOfTheirConnections(t *testing.T, e *engine) {
	s := newSite(t)
	p := s.open(t, e)
	const pages = 9
	for i := range pages {
		p.navigate(s.url(fmt.Sprintf("/page?%d", i)))
		p.run("fanfare({ transports: ['sse'] }); window.number = " + fmt.Sprint(i))
		p.until("stream.state === 'open'")
		s.publish("x")
		p.until("got.length === 1")
	}
	s.eventuallyStreams(1)
	p.back()
	p.until("window.loaded")
	if !p.is("window.number === 7") {
		require.NotEqual(t, "chromium", e.name, "the page was not in the cache")
		t.Logf("%s does not cache the page", e.name)
		return
	}
	p.until("got.length === 2")
	s.publish("y")
	p.until("got.at(-1) === 'y'")
	require.Equal(t, []string{"x", "x", "y"}, evaluate[[]string](p, "got"))
}

// A connection that has died without a word is found out when the page is shown again, or when
// the network is back.
func TestDeadConnectionIsFound(t *testing.T) { inEach(t, deadConnectionIsFound) }

func deadConnectionIsFound(t *testing.T, e *engine) {
	s := newSite(t)
	for _, options := range []string{"transports: ['ws']", "transports: ['sse']", "transports: ['sse'], headers: { 'X-A': 'b' }", "transports: ['poll']"} {
		for _, event := range []string{"dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange'))"} {
			p := s.open(t, e)
			p.run("fanfare({ " + options + ", patience: 10000, retry: 100, maxRetry: 200 })")
			p.until("stream.state === 'open'")
			s.publish("heard")
			p.until("got.at(-1) === 'heard'")
			s.deafen()
			s.publish("missed")
			p.run(event)
			p.within(35*time.Second, "got.at(-1) === 'missed'") // silence alone would take 45 s
			require.Equal(t, []string{"heard", "missed"}, evaluate[[]string](p, "got"), "%s, %s", options, event)
			p.close()
			if options != "transports: ['ws']" {
				break
			}
		}
	}
}

// A page that was frozen has what it missed at once after it thaws.
func TestFrozenPageResumes(t *testing.T) {
	e := engines[0] // drivers of other browsers cannot freeze a page
	e.started(t)
	s := newSite(t)
	for _, options := range []string{"transports: ['ws']", "transports: ['sse'], headers: { 'X-A': 'b' }", "shared: 'user-17'"} {
		tabs := []*tab{s.open(t, e), s.open(t, e)}
		for _, p := range tabs {
			p.run("fanfare({ " + options + " })")
			p.until("stream.state === 'open'")
		}
		s.publish("one")
		for _, p := range tabs {
			p.until("got.at(-1) === 'one'")
			require.NoError(t, p.freeze(true))
			s.publish("two")
			other := tabs[0]
			if other == p {
				other = tabs[1]
			}
			other.until("got.at(-1) === 'two'")
			require.NoError(t, p.freeze(false))
			p.within(12*time.Second, "got.at(-1) === 'two'")
			s.publish("one")
			for _, p := range tabs {
				p.until("got.at(-1) === 'one'")
			}
		}
		for _, p := range tabs {
			require.Equal(t, []string{"one", "two", "one", "two", "one"}, evaluate[[]string](p, "got"), options)
			p.close()
		}
	}
}

// freeze freezes the page, or thaws it. Only Chromium can.
func (p *tab) freeze(isFrozen bool) error {
	state := "active"
	if isFrozen {
		state = "frozen"
	}
	return p.do("WebDriver:/goog/cdp/execute", map[string]any{"cmd": "Page.setWebLifecycleState", "params": map[string]any{"state": state}}, nil)
}

// On a network that holds responses back and cuts WebSockets, the next page gets its first
// message at once: what worked is remembered.
func TestWhatWorkedIsRemembered(t *testing.T) { inEach(t, whatWorkedIsRemembered) }

func whatWorkedIsRemembered(t *testing.T, e *engine) {
	s := newSite(t)
	s.killsWebSockets.Store(true)
	s.holdsResponses.Store(true)
	p := s.open(t, e)
	p.run("fanfare({ upgrade: 60000 })")
	p.until("stream.transport === 'poll'")
	p.navigate(s.url("/page"))
	p.run("fanfare({ upgrade: 60000 })")
	p.until("stream.state === 'open'")
	require.Equal(t, []string{"poll"}, evaluate[[]string](p, "states"), "no attempt before")
}
