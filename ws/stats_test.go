package ws_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// The figures of a WebSocket stream.
func TestStats(t *testing.T) {
	for _, detach := range []bool{false, true} {
		hub := &broadcast.Hub{}
		h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: detach, Options: ws.Options{PingInterval: -1}, Logger: silent}
		serve(t, h, func(t *testing.T, n *network) {
			first, second := n.raw("/", ""), n.raw("/?lastEventId="+position(t, hub), "")
			begin := `{"ready":"` + position(t, hub) + `"}`
			first.receives(begin)
			second.receives(begin)
			id := say(t, hub, "a", "hello")
			first.receives(message(id, "a", "hello"))
			second.receives(message(id, "a", "hello"))
			synctest.Wait()
			require.Equal(t, fanfare.StreamStats{
				Open: 2, Opened: 2, Resumed: 1, Messages: 2,
				Bytes: uint64(len(unmasked(fin|text, begin))+len(unmasked(fin|text, message(id, "a", "hello")))) * 2,
			}, h.Stats())

			first.write(masked(fin|clos, closing(4123, "any words of the client's")))
			first.closes(4123)
			second.write(masked(fin|text, "hello"))
			second.closes(1008)
			response, err := n.client.Get("http://memory/")
			require.NoError(t, err)
			response.Body.Close()
			synctest.Wait()
			stats := h.Stats()
			require.Zero(t, stats.Open)
			require.Equal(t, map[string]uint64{"closed by the client": 1, "no message is expected": 1}, stats.Ended)
			require.Equal(t, map[int]uint64{426: 1}, stats.Refused)
		})
	}
}

// Or that it is silent.
func TestStatsNameWhatAClientIsRefusedFor(t *testing.T) {
	hub := &broadcast.Hub{}
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Options: ws.Options{MaxMessage: 10}, Logger: silent}
	serve(t, h, func(t *testing.T, n *network) {
		for send, code := range map[string]ws.StatusCode{
			masked(fin|text, "more than ten bytes"): 1009,
			masked(fin|text, "\xff"):                1007,
			unmasked(fin|text, "a"):                 1002,
		} {
			p := n.raw("/", "")
			p.next() // ready
			p.write(send)
			p.closes(code)
		}
		p := n.raw("/", "")
		go io.Copy(io.Discard, p.Conn) // and does not write
		time.Sleep(2 * time.Minute)
		require.Equal(t, map[string]uint64{"too big": 1, "not UTF-8": 1, "not the protocol": 1, "peer silent": 1}, h.Stats().Ended)
	})
}
