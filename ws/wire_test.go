package ws_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// The envelopes are those of the package documentation.
func TestWire(t *testing.T) {
	hub := &broadcast.Hub{Keep: 2}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a", "b"}}, func(t *testing.T, n *network) {
		begin := position(t, hub)
		p := n.raw("/", "")
		p.receives(ready(begin))
		id, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: "tick", Data: []byte(`{"usd":42}`)})
		require.NoError(t, err)
		p.receives(`{"id":"` + id.String() + `","topic":"a","type":"tick","data":"{\"usd\":42}"}`)
		id, err = hub.Publish(t.Context(), broadcast.Message{Topic: "b", Data: []byte{0xff}, Binary: true})
		require.NoError(t, err)
		p.receives(`{"id":"` + id.String() + `","topic":"b","data":"/w==","encoding":"base64"}`)
		p.Close()

		one, two := say(t, hub, "a", "1"), say(t, hub, "a", "2")
		p = n.raw("/?lastEventId="+one, "")
		p.receives(ready(one), message(two, "a", "2"))
		p.Close()
		three := say(t, hub, "a", "3")
		p = n.raw("/?lastEventId="+id.String(), "")
		p.receives(`{"gap":"`+before(t, two)+`","topics":["a"],"heartbeat":30}`, message(two, "a", "2"), message(three, "a", "3"))
		p.Close()
		for _, odd := range []string{"nonsense", "2-5", "1-0"} {
			p := n.raw("/?lastEventId="+odd, "")
			p.receives(`{"gap":"` + before(t, id.String()) + `","heartbeat":30}`)
			p.Close()
		}
		synctest.Wait()
	})
}

// A stream that writes nothing for an interval sends its position, and a ping all the
// same.
func TestPositionIsSentInAnIntervalWithAPing(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.receives(ready(position(t, hub)))
		elsewhere := say(t, hub, "b", "not for this client")
		// Something was sent in the first interval. After the second come a ping and the
		// position, in any order.
		var got []string
		for range 3 {
			f := p.next()
			got = append(got, f.String())
			if f.first == fin|ping {
				p.write(masked(fin|pong, f.payload))
			}
		}
		synctest.Wait()
		assert.Contains(t, strings.Join(got, "\n"), `{\"position\":\"`+elsewhere)
		assert.Contains(t, strings.Join(got, "\n"), "0x89")
		p.Close()
	})
}

// With heartbeat=1 the position is sent every interval, even if it has not changed.
func TestHeartbeatSendsThePosition(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}}, func(t *testing.T, n *network) {
		c := n.dial("/?heartbeat=1", ws.Options{})
		began := time.Now()
		here := position(t, hub)
		for _, want := range []string{ready(here), `{"position":"` + here + `"}`, `{"position":"` + here + `"}`} {
			_, data, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, string(data))
		}
		require.Equal(t, time.Minute, time.Since(began))
		require.NoError(t, c.CloseNow())
	})
}

// Encode makes each message once for all streams. A message that it drops, or that
// cannot be encoded, reaches no client; a gap that Notice leaves out closes the stream
// with 1013.
func TestEncode(t *testing.T) {
	hub := &broadcast.Hub{Keep: 1}
	encode := func(m *broadcast.Message) (ws.MessageType, []byte, bool) {
		switch string(m.Data) {
		case "panic":
			panic("in Encode")
		case "not UTF-8":
			return ws.Text, []byte{0xff}, true
		case "nobody":
			return 0, nil, false
		}
		return 0, append([]byte("> "), m.Data...), true
	}
	log := &logbook{}
	mux := http.NewServeMux()
	mux.Handle("/raw", &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Encode: ws.Raw})
	mux.Handle("/own", &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Encode: encode, Logger: log.logger(),
		Notice: func(n fanfare.Notice) (ws.MessageType, []byte, bool) {
			return ws.Text, []byte(n.Kind), n.Kind != fanfare.Ready
		}})
	serve(t, mux, func(t *testing.T, n *network) {
		raw, own, other := n.raw("/raw", ""), n.raw("/own", ""), n.raw("/own", "")
		synctest.Wait()
		say(t, hub, "a", "x")
		raw.receives("x")
		own.receives("> x")
		other.receives("> x")
		synctest.Wait()
		for _, text := range []string{"panic", "not UTF-8", "nobody"} {
			say(t, hub, "a", text)
			raw.receives(text)
			synctest.Wait()
		}
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: []byte{0xff, 0xfe}, Binary: true})
		require.NoError(t, err)
		require.Equal(t, frame{fin | bin, "\xff\xfe"}, raw.next())
		synctest.Wait()
		require.Equal(t, 3, log.events("cannot be encoded"), "once a message, not a stream")

		gap := n.raw("/own?lastEventId=1-0", "")
		gap.receives("gap")
		lost := n.raw("/raw?lastEventId=1-0", "")
		lost.closes(ws.StatusTryAgainLater)
		for _, p := range []*peer{raw, own, other, gap} {
			p.Close()
		}
		synctest.Wait()
	})
}

// The panic is logged, and the stream goes on.
func TestPanicInNoticeLeavesTheNoticeOut(t *testing.T) {
	hub, log := &broadcast.Hub{}, &logbook{}
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: log.logger(), Encode: ws.Raw,
		Notice: func(fanfare.Notice) (ws.MessageType, []byte, bool) { panic("in Notice") }}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		say(t, hub, "a", "hello")
		p.receives("hello")
		require.Equal(t, 1, log.count("in Notice"))
		p.Close()
	})
}
