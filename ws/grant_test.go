package ws_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// Each field of a Grant has its effect on a WebSocket, and each error of Grant refuses
// the handshake.
func TestGrant(t *testing.T) {
	hub := &broadcast.Hub{}
	log := &logbook{}
	var left atomic.Int32
	var states atomic.Int32
	h := &ws.Handler{Broadcaster: hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
		context.AfterFunc(r.Context(), func() { left.Add(1) })
		switch r.URL.Path {
		case "/panic":
			panic("in Grant")
		case "/away":
			return nil, &fanfare.Refusal{Status: 503, RetryAfter: 1500 * time.Millisecond}
		}
		return &fanfare.Grant{
			Topics:  []string{"a"},
			Last:    2,
			Expires: time.Now().Add(50 * time.Second),
			Filter: func(m *broadcast.Message) bool {
				if string(m.Data) == "poison" {
					panic("in Filter")
				}
				return m.From != "me"
			},
			Snapshot: func(context.Context) ([]broadcast.Message, error) {
				return []broadcast.Message{{Topic: "a", Data: fmt.Append(nil, "state ", states.Add(1))}}, nil
			},
		}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		for path, status := range map[string]int{"/panic": 500, "/away": 503} {
			_, err := ws.Dial(t.Context(), "ws://memory"+path, &ws.DialOptions{HTTPClient: n.client})
			var refused *ws.HandshakeError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, status, refused.Status)
		}
		for _, text := range []string{"0", "1", "2"} {
			say(t, hub, "a", text)
		}
		p := n.raw("/", "")
		p.receives(`{"begin":"1-0","heartbeat":30}`, `{"topic":"a","data":"state 1"}`, `{"topic":"a","data":"1"}`, `{"topic":"a","data":"2"}`, ready(position(t, hub)))
		say(t, hub, "a", "poison")
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", From: "me"})
		require.NoError(t, err)
		p.receives(message(say(t, hub, "a", "3"), "a", "3"))
		require.Equal(t, fin|ping, int(p.next().first))
		p.write(masked(fin|pong, ""))
		require.Equal(t, "expired", p.closes(ws.StatusUnauthorized))
		synctest.Wait()
		require.Equal(t, 1, log.count("panic in Grant.Filter"))
		require.EqualValues(t, 3, left.Load(), "each request's context has ended, once")

		// It was cut in its beginning, and begins again; cut before the position, it does so once more.
		for i := range 2 {
			p := n.raw("/?lastEventId=1-0", "")
			p.receives(`{"begin":"1-0","heartbeat":30}`, fmt.Sprintf(`{"topic":"a","data":"state %d"}`, i+2), `{"topic":"a","data":"3"}`)
			if i == 1 {
				f := p.next()
				require.Contains(t, f.payload, `{"ready":"`)
			}
			p.Close()
		}
		synctest.Wait()
	})
}

// A Snapshot's message whose Type is reserved is dropped and logged, as Publish would refuse
// it: fanfare.js would take it for an event of the stream or its own.
func TestSnapshotOfAReservedType(t *testing.T) {
	hub := &broadcast.Hub{}
	log := &logbook{}
	h := &ws.Handler{Broadcaster: hub, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) (state []broadcast.Message, _ error) {
			for _, typ := range []string{"gap", "open", "error", "statechange", "begin", "ended", "end"} {
				state = append(state, broadcast.Message{Topic: "a", Type: typ})
			}
			return state, nil
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		n.raw("/", "").receives(`{"begin":"1-0","heartbeat":30}`, `{"topic":"a","type":"end","data":""}`, ready(position(t, hub)))
		require.Positive(t, log.count("is reserved")) // the first at once, the others in a count
	})
}
