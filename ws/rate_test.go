package ws_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// counting is a Handler that counts the messages of its clients.
func counting(o ws.Options, got *atomic.Int32) *ws.Handler {
	return &ws.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent, Options: o,
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(ws.MessageType, []byte) error { got.Add(1); return nil }
		}}
}

// More messages than MessageRate allows wait for their turn, and the connection stays
// open, with its pings.
func TestMessagesWaitForTheirRate(t *testing.T) {
	for _, detach := range []bool{false, true} {
		var got atomic.Int32
		h := counting(ws.Options{MessageRate: 5, PingInterval: 10 * time.Second}, &got)
		h.Detach = detach
		serve(t, h, func(t *testing.T, n *network) {
			p := n.raw("/", "")
			p.next()
			p.write(strings.Repeat(masked(fin|text, "x"), 205) + masked(fin|ping, "still there?"))
			require.Equal(t, frame{fin | pong, "still there?"}, p.next())
			synctest.Wait()
			require.EqualValues(t, 5, got.Load(), "a burst of one second's messages")
			for i := range 39 {
				time.Sleep(time.Second)
				synctest.Wait()
				require.EqualValues(t, 10+5*i, got.Load())
				if i%10 == 9 {
					require.Equal(t, byte(fin|ping), p.next().first, "the server's")
					p.write(masked(fin|pong, ""))
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			require.EqualValues(t, 205, got.Load(), "all of them")
			p.Close()
			synctest.Wait()
			require.Equal(t, map[string]uint64{"peer gone": 1}, h.Stats().Ended)
		})
	}
}

// A client that sends on and on fills what may be read ahead, and then its own sending
// waits. It is not taken for silent.
func TestSendingWaitsForTheRate(t *testing.T) {
	var got atomic.Int32
	h := counting(ws.Options{MessageRate: 10, MaxMessage: 10_000, PingInterval: 10 * time.Second}, &got)
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		var sent atomic.Int32
		p.SetReadDeadline(time.Time{})
		go io.Copy(io.Discard, p.Conn) // pings, which it does not answer
		go func() {
			for {
				if _, err := io.WriteString(p.Conn, masked(fin|text, strings.Repeat("x", 9000))); err != nil {
					return
				}
				sent.Add(1)
			}
		}()
		for range 10 {
			time.Sleep(time.Minute)
			require.LessOrEqual(t, sent.Load(), got.Load()+30)
		}
		require.InDelta(t, 6010, got.Load(), 2)
		require.Equal(t, 1, h.Stats().Open)
		p.Close()
		time.Sleep(time.Minute)
	})
}

// A message that is never allowed closes the connection, however many wait.
func TestMessageThatIsNeverAllowedClosesTheConnection(t *testing.T) {
	grant := &fanfare.Grant{Topics: []string{"a"}, Change: func(topics []string) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: topics}, nil
	}}
	h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Logger: silent, Options: ws.Options{MessageRate: 1},
		Grant: func(*http.Request) (*fanfare.Grant, error) { return grant, nil }}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		p.write(strings.Repeat(ask(`"b"`), 5) + masked(fin|text, "hello"))
		for {
			f := p.next()
			if f.first == fin|clos {
				require.Equal(t, closing(ws.StatusPolicyViolation, "no such message is expected"), f.payload)
				break
			}
		}
		p.Close()
		synctest.Wait()
	})
}

// A rate that is no number, or has no end, is no limit; a small one lets a message pass in
// the end.
func TestUnusualRates(t *testing.T) {
	for name, test := range map[string]struct {
		rate float64
		wait time.Duration
	}{
		"negative": {-1, 0}, "infinite": {math.Inf(1), 0}, "not a number": {math.NaN(), 0}, "fast": {1e300, 0},
		"one in ten seconds": {0.1, 100 * time.Second}, "nearly none": {1e-300, -1},
	} {
		t.Run(name, func(t *testing.T) {
			var got atomic.Int32
			serve(t, counting(ws.Options{MessageRate: test.rate, PingInterval: -1}, &got), func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.next()
				p.write(strings.Repeat(masked(fin|text, "x"), 11))
				synctest.Wait()
				switch {
				case test.wait == 0:
					require.EqualValues(t, 11, got.Load())
				case test.wait < 0:
					time.Sleep(1000 * time.Hour)
					require.EqualValues(t, 1, got.Load())
				default:
					time.Sleep(test.wait - time.Second)
					require.EqualValues(t, 10, got.Load())
					time.Sleep(2 * time.Second)
					require.EqualValues(t, 11, got.Load())
				}
				p.write(masked(fin|clos, closing(1000, "")))
				p.closes(1000)
				synctest.Wait()
				require.EqualValues(t, 11, got.Load(), "what waits is handled before the close")
			})
		})
	}
}

// Requests for other topics count as messages do, where there is a MessageRate.
func TestTopicsWaitForTheRate(t *testing.T) {
	var changes atomic.Int32
	grant := &fanfare.Grant{Topics: []string{"a"}, Change: func(topics []string) (*fanfare.Grant, error) {
		changes.Add(1)
		return &fanfare.Grant{Topics: topics}, nil
	}}
	h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Logger: silent, Options: ws.Options{MessageRate: 0.5},
		Grant: func(*http.Request) (*fanfare.Grant, error) { return grant, nil }}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		for i := range 4 {
			p.write(ask(fmt.Sprintf(`"%d"`, i)))
		}
		for i := range 4 {
			began := time.Now()
			require.Contains(t, p.next().payload, fmt.Sprintf(`{"topics":["%d"]`, i))
			if i > 0 {
				require.Equal(t, 2*time.Second, time.Since(began))
			}
		}
		p.Close()
	})
}
