package sse_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// Over HTTP/2 a write deadline also counts while nothing is written. It is cleared after each
// write, so that an idle stream is not reset.
func TestIdleStreamSurvivesOverHTTP2(t *testing.T) {
	var hub broadcast.Hub
	serve(t, &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}, func(t *testing.T, n *network) {
		s, other := n.get("/"), n.get("/")
		require.Equal(t, 2, s.ProtoMajor)
		s.expectBegin()
		other.expectBegin()
		time.Sleep(10 * time.Minute)
		require.Equal(t, strings.Repeat(":\n", 40), s.received())
		id := publish(t, &hub, "a", "x")
		s.expect(tick(id, "x"))
		other.cancel()
		time.Sleep(12 * time.Second)
		require.True(t, s.open(), "the end of another stream changes nothing")
		require.NoError(t, hub.Close())
		s.expectEnd()
		require.EqualValues(t, 1, n.dials.Load())
	}, overHTTP2)
}

// A stream that is cut over HTTP/2 leaves the other streams of its connection alone.
func TestStuckStreamLeavesItsHTTP2ConnectionOpen(t *testing.T) {
	hub := broadcast.Hub{}
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: log.logger()}
	serve(t, h, func(t *testing.T, n *network) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory/", nil)
		require.NoError(t, err)
		stuck, err := n.transport.RoundTrip(r) // its body is not read
		require.NoError(t, err)
		defer stuck.Body.Close()
		s := n.get("/")
		s.expectBegin()
		data := strings.Repeat("x", 1<<20-1<<10)
		began := time.Now()
		for range 10 { // more than a client takes unread
			s.expect(tick(publish(t, &hub, "a", data), data))
		}
		require.Equal(t, began, time.Now(), "no other client waits")
		for hub.Stats().Subscriptions == 2 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		require.LessOrEqual(t, time.Since(began), 10*time.Second+100*time.Millisecond)
		require.Len(t, log.with("stream ended"), 1)
		require.True(t, s.open(), "the connection is still open")
		s.cancel()
		synctest.Wait()
	}, overHTTP2)
}
