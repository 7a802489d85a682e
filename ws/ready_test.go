package ws_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// The notice with which a stream begins, whichever that is, says how long it may be silent, in seconds,
// unless there are no heartbeats. Those that follow do not.
func TestTheFirstNoticeSaysTheHeartbeat(t *testing.T) {
	for _, test := range []struct {
		interval time.Duration
		says     string
	}{
		{0, `,"heartbeat":30`},
		{15 * time.Second, `,"heartbeat":15`},
		{1500 * time.Millisecond, `,"heartbeat":1.5`},
		{20 * time.Millisecond, `,"heartbeat":0.02`},
		{24 * 365 * time.Hour, `,"heartbeat":31536000`},
		{-1, ``},
	} {
		for _, detach := range []bool{false, true} {
			hub := &broadcast.Hub{}
			h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: detach, Logger: silent, Options: ws.Options{PingInterval: test.interval}}
			serve(t, h, func(t *testing.T, n *network) {
				here := position(t, hub)
				for _, target := range []string{"/", "/?heartbeat=1", "/?lastEventId=" + here} {
					p := n.raw(target, "")
					p.receives(`{"ready":"` + here + `"` + test.says + `}`)
					p.Close()
				}
				gap := n.raw("/?lastEventId=2-5", "")
				gap.receives(`{"gap":"` + here + `"` + test.says + `}`)
				gap.Close()
			})
			h = beginning(hub, detach)
			h.Options = ws.Options{PingInterval: test.interval}
			serve(t, h, func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.receives(`{"begin":"1-0"`+test.says+`}`, `{"ready":"`+position(t, hub)+`"`+test.says+`}`)
				p.write(ask(`"b"`))
				p.receives(`{"begin":"1-0"}`, `{"topics":["b"],"position":"`+position(t, hub)+`"}`)
				p.Close()
			})
		}
	}
}

// A Handler's Notice gets the interval for a protocol of its own.
func TestNoticeGetsTheHeartbeat(t *testing.T) {
	var got []fanfare.Notice
	h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Encode: ws.Raw, Logger: silent,
		Notice: func(n fanfare.Notice) (ws.MessageType, []byte, bool) { got = append(got, n); return ws.Text, nil, true }}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		p.Close()
		require.Len(t, got, 1)
		require.Equal(t, 30*time.Second, got[0].Heartbeat)
	})
}
