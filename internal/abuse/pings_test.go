package abuse_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// pingers is how many clients share a flood.
const pingers = 4

// mostPinged is how many bytes of heap one of them, and all that goes on beside it, may
// take when it has sent its pings.
const mostPinged = 1 << 20

// pingsEach is how many pings each of them sends: a million in a flood, and a million in
// both where the race detector slows them down.
func pingsEach() int {
	switch {
	case testing.Short():
		return 25_000
	case raced:
		return 125_000
	}
	return 250_000
}

// ping sends n pings, numbered from 1 on and as large as they may be, as fast as it can.
func (p *peer) ping(t *testing.T, n int) {
	w := bufio.NewWriter(p)
	payload := make([]byte, 125)
	for i := range n {
		binary.BigEndian.PutUint64(payload, uint64(1+i))
		_, _ = w.WriteString(frame(pingFrame, string(payload)))
	}
	assert.NoError(t, w.Flush()) // which has the first error
}

// TestPings has clients that ping as fast as they can, and read the pongs. Of several
// pings only the newest needs an answer (RFC 6455 section 5.5.3): the numbers grow, and
// the last ping of all has one.
func TestPings(t *testing.T) {
	v := abused(t, ws.Options{})
	v.withBystanders(t)
	each := pingsEach()
	began := time.Now()
	var pongs atomic.Int64
	var all sync.WaitGroup
	for i := range pingers {
		p := v.connect(t, socketPaths[i%2])
		all.Go(func() { p.ping(t, each) })
		all.Go(func() {
			numbers := p.readPongs(t, uint64(each))
			pongs.Add(int64(len(numbers)))
		})
	}
	all.Wait()
	t.Logf("%d pings have got %d pongs in %v", each*pingers, pongs.Load(), time.Since(began))
	costs(t, "a client that has pinged", v.before, pingers, mostPinged)
}

// readPongs reads on to the pong of the last ping, and returns the numbers in all of them.
func (p *peer) readPongs(t *testing.T, last uint64) (numbers []uint64) {
	_ = p.SetReadDeadline(time.Now().Add(5 * time.Minute))
	for newest := uint64(0); newest < last; {
		first, payload, err := readFrame(p.r)
		if !assert.NoError(t, err) {
			break
		}
		if first != pongFrame {
			continue
		}
		n := binary.BigEndian.Uint64([]byte(payload))
		if !assert.Greater(t, n, newest, "a ping was answered late, or twice") || !assert.LessOrEqual(t, n, last) {
			break
		}
		newest, numbers = n, append(numbers, n)
	}
	return numbers
}

// TestPingFlood has clients that ping and read nothing, neither pongs nor messages: it
// costs no memory, and the others nothing. When they read at last, no pongs have piled up
// for them.
func TestPingFlood(t *testing.T) {
	v := abused(t, ws.Options{WriteTimeout: 10 * time.Minute}) // else they would be cut
	v.withBystanders(t)
	each := pingsEach()
	peers := make([]*peer, pingers)
	for i := range peers {
		peers[i] = v.connect(t, socketPaths[i%2])
	}
	for range 32 { // more than fits between the two
		_, err := v.hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: bytes.Repeat([]byte("x"), 8<<10)})
		require.NoError(t, err)
	}
	began := time.Now()
	var sending sync.WaitGroup
	for _, p := range peers {
		sending.Go(func() { p.ping(t, each) })
	}
	sending.Wait()
	t.Logf("%d pings were sent in %v", each*pingers, time.Since(began))
	costs(t, "a client that has pinged", v.before, pingers, mostPinged)
	for _, p := range peers {
		numbers := p.readPongs(t, uint64(each))
		// These came when nothing more could be written, but for what the kernel still
		// finds room for.
		from, _ := slices.BinarySearch(numbers, uint64(each)/4)
		to, _ := slices.BinarySearch(numbers, uint64(each)/2)
		assert.Less(t, to-from, 100, "pongs have piled up")
	}
}
