package sse_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// Filter drops a message for one client. The position moves all the same, and a Filter that
// panics drops the message and is logged once.
func TestFilterDropsForOneClient(t *testing.T) {
	var hub broadcast.Hub
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
		me := r.URL.Query().Get("me")
		return &fanfare.Grant{Topics: []string{"a"}, Filter: func(m *broadcast.Message) bool {
			if string(m.Data) == "poison" {
				panic("in Filter")
			}
			return m.From != me
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		me, other := n.get("/?me=me"), n.get("/?me=other")
		me.expectBegin()
		other.expectBegin()
		put := func(data string) string {
			id, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: "tick", From: "me", Data: []byte(data)})
			require.NoError(t, err)
			return id.String()
		}
		id := put("hello")
		other.expect(tick(id, "hello"))
		require.Empty(t, me.received())
		me.expect("id: " + id + "\n\n") // with a heartbeat
		time.Sleep(20 * time.Second)
		other.received() // heartbeats
		me.received()

		poison := put("poison")
		after := put("after")
		other.expect(tick(after, "after"))
		me.expect("id: " + after + "\n\n")
		lines := log.with("dropped a message")
		require.Len(t, lines, 1, "once for the message, not for each stream")
		require.Equal(t, "ERROR", lines[0]["level"])
		require.Equal(t, poison, lines[0]["id"])
		require.Equal(t, "a", lines[0]["topic"])
		require.Contains(t, lines[0]["error"], "panic in Grant.Filter: in Filter")

		s := n.get("/?me=me", "Last-Event-ID", id)
		require.Equal(t, "retry: 3000\nid: "+id+"\n\n", s.received())
		s.expect("id: " + after + "\n\n")
		require.Len(t, log.with("dropped a message"), 1, "nor for a stream that resumes")
	})
}

// A stream whose Filter drops every message still sends heartbeats, and ends on Shutdown.
func TestHeartbeatsGoOnWhileFilterDropsAll(t *testing.T) {
	e := &neverIdle{}
	h := &sse.Handler{Broadcaster: e, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Filter: func(*broadcast.Message) bool { return false }}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		s.expectBegin()
		time.Sleep(time.Hour)
		assert.NotEmpty(t, s.received(), "a heartbeat in an hour")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		assert.NoError(t, n.server.Shutdown(ctx), "Shutdown")
		s.cancel()
		time.Sleep(time.Second)
	})
}

// Filters that block delay no other stream, even if more of them block than there are workers.
func TestFilterThatBlocksDelaysNoOtherStream(t *testing.T) {
	var hub broadcast.Hub
	defer hub.Close()
	checked := make(chan struct{})
	defer close(checked)
	h := detachable(&hub)
	h.Grant = func(r *http.Request) (*fanfare.Grant, error) {
		g := &fanfare.Grant{Topics: []string{r.URL.Path[1:]}}
		if g.Topics[0] == "checked" {
			g.Filter = func(*broadcast.Message) bool { <-checked; return true }
		}
		return g, nil
	}
	server := httptest.NewServer(h)
	defer server.Close()
	streams := 3 * runtime.GOMAXPROCS(0)
	for range streams {
		response, err := http.Get(server.URL + "/checked")
		require.NoError(t, err)
		defer response.Body.Close()
	}
	response, err := http.Get(server.URL + "/quiet")
	require.NoError(t, err)
	defer response.Body.Close()
	publish(t, &hub, "checked", "for the blocked ones")
	publish(t, &hub, "quiet", "for the other one")
	event, err := sse.NewReader(response.Body).Read()
	require.NoError(t, err)
	require.Equal(t, "for the other one", string(event.Data))
}
