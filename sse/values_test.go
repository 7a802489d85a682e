package sse_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// However many clients begin, each value is encoded once, also if many messages have come since.
func TestBeginningsEncodeEachValueOnce(t *testing.T) {
	const values, clients = 3000, 20
	hub := new(broadcast.Hub)
	for i := range values {
		put(t, hub, broadcast.Message{Topic: "a", Type: "set", Key: fmt.Sprint(i), Data: []byte("1")})
	}
	h := beginning(hub)
	var encoded atomic.Int64
	h.Encode = func(m *broadcast.Message) (sse.Event, bool) {
		encoded.Add(1)
		return sse.Event{Type: m.Type, Data: m.Data}, true
	}
	defer hub.Close()
	serve(t, h, func(t *testing.T, n *network) {
		var streams []*stream
		for range clients {
			s := n.get("/")
			require.Contains(t, s.received(), "\n\nid: "+position(t, hub)+"\n\n")
			streams = append(streams, s)
		}
		for _, s := range streams {
			s.cancel()
		}
	})
	require.EqualValues(t, values, encoded.Load())
}
