package sse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// The figures of a handler, for a log, expvar or a metrics library.
func ExampleHandler_Stats() {
	var hub broadcast.Hub
	news := &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}}
	server := httptest.NewServer(news)
	defer server.Close()

	response, err := http.Get(server.URL)
	if err != nil {
		panic(err)
	}
	stats := news.Stats()
	fmt.Println(stats.Open, "open,", stats.Opened, "opened")
	response.Body.Close()
	hub.Close() // ends the stream

	if response, err = http.Post(server.URL, "text/plain", nil); err != nil {
		panic(err)
	}
	response.Body.Close()
	fmt.Println("refused:", news.Stats().Refused)
	// Output:
	// 1 open, 1 opened
	// refused: map[405:1]
}

// Stats counts streams, messages, gaps, refusals and ends.
func TestStatsCountWhatAHandlerDid(t *testing.T) {
	for _, detach := range []bool{false, true} {
		t.Run(fmt.Sprint("detached: ", detach), func(t *testing.T) {
			hub := &broadcast.Hub{Keep: 4}
			h := &sse.Handler{Broadcaster: hub, Detach: detach, Options: sse.Options{Heartbeat: -1}, Grant: func(r *http.Request) (*fanfare.Grant, error) {
				if r.URL.Path == "/nobody" {
					return nil, &fanfare.Refusal{Status: 401, Err: errors.New("nobody")}
				}
				return &fanfare.Grant{Topics: []string{"a"}}, nil
			}, Logger: new(logbook).logger()}
			serve(t, h, func(t *testing.T, n *network) {
				require.Equal(t, fanfare.StreamStats{}, h.Stats(), "before its first use")
				fresh := n.get("/")
				begin := fresh.expectBegin()
				prologue := len("retry: 3000\nid: \n\n") + len(begin)
				require.Equal(t, 1, h.Stats().Open)
				one := publish(t, hub, "a", "one")
				fresh.expect(tick(one, "one"))
				resumed := n.get("/", "Last-Event-ID", begin)
				require.Equal(t, begin, resumed.expectBegin())
				resumed.expect(tick(one, "one"))
				two := publish(t, hub, "a", "two")
				fresh.expect(tick(two, "two"))
				resumed.expect(tick(two, "two"))
				synctest.Wait()
				stats := h.Stats()
				size := 2*prologue + 2*len(tick(one, "one")) + 2*len(tick(two, "two"))
				if detach { // with the head, and in chunks
					require.Greater(t, stats.Bytes, uint64(size))
				} else {
					require.EqualValues(t, size, stats.Bytes)
				}
				stats.Bytes = 0
				require.Equal(t, fanfare.StreamStats{Open: 2, Opened: 2, Resumed: 1, Messages: 4, Replayed: 1}, stats)

				for range 5 { // so that the first is no longer kept
					publish(t, hub, "a", "more")
					synctest.Wait() // the open streams keep up
				}
				n.get("/", "Last-Event-ID", begin).expect("retry: 3000\nevent: gap\n")
				n.do("HEAD", "/", nil, "Last-Event-ID", begin) // HEAD resumes nothing
				n.get("/nobody")
				n.do("POST", "/", nil)
				n.get("/", "Accept", "text/html")
				synctest.Wait()
				stats = h.Stats()
				require.EqualValues(t, 1, stats.Gaps)
				require.Equal(t, map[int]uint64{401: 1, 405: 1, 406: 1}, stats.Refused)
				require.EqualValues(t, 2, stats.Resumed)
				require.EqualValues(t, 1+4, stats.Replayed)
				require.Zero(t, stats.Behind, "all have everything")

				require.NoError(t, hub.Close())
				synctest.Wait()
				stats = h.Stats()
				require.Zero(t, stats.Open)
				require.Equal(t, map[string]uint64{"restart": 3}, stats.Ended)
			})
		})
	}
}

// Stats shows how many streams lag, and for how long the slowest has.
func TestStatsShowHowFarAClientLags(t *testing.T) {
	hub := &broadcast.Hub{}
	h := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: new(logbook).logger()}
	serve(t, h, func(t *testing.T, n *network) {
		good := n.get("/")
		good.expectBegin()
		n.getUnread("/")
		synctest.Wait()
		publish(t, hub, "a", strings.Repeat("x", 1000))
		time.Sleep(3 * time.Second)
		stats := h.Stats()
		require.Equal(t, 2, stats.Open)
		require.Equal(t, 1, stats.Behind)
		require.InDelta(t, 3*time.Second, stats.Lag, 1)
		time.Sleep(10 * time.Second)
		stats = h.Stats()
		require.Zero(t, stats.Behind)
		require.Zero(t, stats.Lag)
		require.Equal(t, map[string]uint64{"write failed": 1}, stats.Ended)
	})
}

// Messages of a Snapshot and the Last messages count as sent, not as replayed.
func TestStatsCountSnapshotAndLast(t *testing.T) {
	hub := &broadcast.Hub{}
	h := &sse.Handler{Broadcaster: hub, Logger: new(logbook).logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Last: 2, Snapshot: func(context.Context) ([]broadcast.Message, error) {
			return []broadcast.Message{{Topic: "a", Data: []byte("state")}}, nil
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		for range 3 {
			publish(t, hub, "a", "old")
		}
		n.get("/")
		synctest.Wait()
		require.EqualValues(t, 1+2, h.Stats().Messages)
		require.Zero(t, h.Stats().Replayed)
	})
}
