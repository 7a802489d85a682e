package abuse_test

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/ws"
)

// slowClients is how many clients at a time send as little as they can.
const slowClients = 240

// trickle writes text byte by byte, over and over, until the connection ends or enough is
// closed.
func (p *peer) trickle(text string, every time.Duration, enough <-chan struct{}) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for i := 0; ; i++ {
		i %= len(text)
		if _, err := io.WriteString(p, text[i:i+1]); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-enough:
			return
		}
	}
}

// crowd notes when each of its clients is cut.
type crowd struct {
	all   sync.WaitGroup
	mu    sync.Mutex
	after []time.Duration // which a client was cut
}

// add notes when the peer is cut, and calls check with all that it received.
func (c *crowd) add(p *peer, check func(received string)) {
	began := time.Now()
	c.all.Go(func() {
		received, _ := io.ReadAll(p.r)
		check(string(received))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.after = append(c.after, time.Since(began))
	})
}

// gone returns how many have been cut.
func (c *crowd) gone() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.after)
}

// wait waits until all have been cut, and returns the shortest and the longest life.
func (c *crowd) wait() (shortest, longest time.Duration) {
	c.all.Wait()
	return slices.Min(c.after), slices.Max(c.after)
}

// A request that arrives byte by byte and never ends is cut by http.Server's
// ReadHeaderTimeout.
func TestReadHeaderTimeoutEndsASlowRequest(t *testing.T) {
	v := abused(t, ws.Options{})
	v.withBystanders(t)
	before := takeStock()
	var c crowd
	for i := range slowClients {
		p := v.dial(t)
		head := strings.TrimSuffix(request(allPaths[i%len(allPaths)]), "\r\n") + "X-More: " + strings.Repeat("x", 1000)
		go p.trickle(head, 20*time.Millisecond, nil)
		c.add(p, func(received string) { assert.NotRegexp(t, "^HTTP/1.1 (101|200)", received) })
	}
	costs(t, "a request that does not end", before, slowClients, 40<<10)
	shortest, longest := c.wait()
	t.Logf("cut after %v to %v", shortest, longest)
	assert.Greater(t, shortest, slowest*9/10)
	assert.Less(t, longest, slowest+promptly)
}

// A request whose body never arrives is cut by http.Server's ReadTimeout: net/http waits
// for the body before it writes most responses and before it closes the connection. A
// WebSocket's handshake with a body is refused. An event stream ends after its own
// WriteTimeout.
func TestABodyThatNeverArrivesIsNotWaitedFor(t *testing.T) {
	v := abused(t, ws.Options{WriteTimeout: time.Second, PingInterval: time.Second})
	v.withBystanders(t)
	crowds := map[string]*crowd{}
	for _, query := range []string{"", "&topic=%0a"} { // refused
		for _, path := range allPaths {
			c := new(crowd)
			crowds[path+query] = c
			for range slowClients / 8 {
				p := v.dial(t)
				_, err := io.WriteString(p, request(path+query, "Content-Length: 5"))
				require.NoError(t, err)
				c.add(p, func(string) {})
			}
		}
	}
	for path, c := range crowds {
		shortest, longest := c.wait()
		t.Logf("%s: cut after %v to %v", path, shortest, longest)
		assert.Less(t, longest, slowest+promptly, path)
	}
}

// A client that never completes its message is not cut as long as it sends a byte before
// its second ping is due. It costs little more than an idle client, and is cut when it
// stops.
func TestAMessageThatNeverEndsCostsLittle(t *testing.T) {
	longtest.Only(t)
	const interval = 500 * time.Millisecond
	v := abused(t, ws.Options{PingInterval: interval, Compression: true})
	v.withBystanders(t)
	enough := make(chan struct{})
	send := func(name, begin, rest string, most int64) *crowd {
		before, c := takeStock(), new(crowd)
		for i := range slowClients / 6 {
			p := v.connect(t, socketPaths[i%2], "Sec-WebSocket-Extensions: permessage-deflate")
			c.add(p, func(received string) { assert.NotContains(t, received, "\x88", "a close frame") })
			_, err := io.WriteString(p, begin)
			require.NoError(t, err)
			if rest != "" {
				go p.trickle(rest, interval/5, enough)
			}
		}
		<-time.After(interval / 5)
		costs(t, name, before, slowClients/6, most)
		return c
	}
	_, longest := send("a client that is silent", "", "", 40<<10).wait()
	t.Logf("it was cut after %v", longest)
	assert.Less(t, longest, 2*interval+promptly)
	slow := []*crowd{
		send("a frame that does not end", frameHeader(final|binaryFrame, 30<<10), "x", 50<<10),
		send("a message but for its end", frameHeader(final|binaryFrame, 32<<10)+strings.Repeat("x", 31<<10), "x", 100<<10),
		send("fragments without end", frame(binaryFrame, "x"), frame(continuation, "x"), 50<<10),
		send("empty fragments without end", frame(binaryFrame, ""), frame(continuation, ""), 50<<10),
		send("a deflated frame that does not end", frameHeader(final|deflated|binaryFrame, 30<<10)+"\x00\xff\x7f\x00\x80", "x", 120<<10),
	}
	<-time.After(4 * interval)
	for _, c := range slow {
		require.Zero(t, c.gone(), "cut although a byte arrived in each interval")
	}
	began := time.Now()
	close(enough)
	for _, c := range slow {
		c.wait()
	}
	t.Logf("they were cut %v after their last bytes", time.Since(began))
	assert.Less(t, time.Since(began), 2*interval+promptly)
}
