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

// pingers is how many clients take part in a flood.
const pingers = 4

// mostPinged is how many bytes of heap there may be for each of them, everything included,
// after it has sent its pings.
const mostPinged = 1 << 20

// pingsEach returns how many pings each of them sends: a million in all, or half a million
// with the race detector.
func pingsEach() int {
	switch {
	case testing.Short():
		return 25_000
	case raced:
		return 125_000
	}
	return 250_000
}

// ping sends n pings as fast as it can, numbered from 1 and of the largest size.
func (p *peer) ping(t *testing.T, n int) {
	w := bufio.NewWriter(p)
	payload := make([]byte, 125)
	for i := range n {
		binary.BigEndian.PutUint64(payload, uint64(1+i))
		_, _ = w.WriteString(frame(pingFrame, string(payload)))
	}
	assert.NoError(t, w.Flush()) // returns the first error of all writes
}

// Of pings that arrive faster than pongs are written the newest are answered, in order (RFC
// 6455 section 5.5.3). The last ping always is.
func TestTheNewestPingsAreAnswered(t *testing.T) {
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

// readPongs reads up to the pong of the last ping, and returns the numbers of all pongs.
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

// A client that pings and reads nothing costs no memory, and pongs for it do not pile up.
func TestPongsDoNotPileUp(t *testing.T) {
	v := abused(t, ws.Options{WriteTimeout: 10 * time.Minute}) // so that they are not cut
	v.withBystanders(t)
	each := pingsEach()
	peers := make([]*peer, pingers)
	for i := range peers {
		peers[i] = v.connect(t, socketPaths[i%2])
	}
	for range 32 { // more than the sockets' buffers have room for
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
		// These pings arrived while hardly anything could be written.
		from, _ := slices.BinarySearch(numbers, uint64(each)/4)
		to, _ := slices.BinarySearch(numbers, uint64(each)/2)
		assert.Less(t, to-from, 100, "pongs have piled up")
	}
}
