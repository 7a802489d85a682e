package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
)

// hubs starts the Hubs of several servers on one log. They end with the test.
func hubs(t *testing.T, c Config) (all []*broadcast.Hub) {
	for range servers {
		journal, closeJournal := c.Open(t)
		hub := &broadcast.Hub{Journal: journal, Logger: silent}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = hub.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			running.Wait()
			_ = hub.Close()
			closeJournal()
		})
		ready, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		require.NoError(t, hub.Ready(ready))
		all = append(all, hub)
	}
	return all
}

// revocations is how many users TestRevoke signs out.
const revocations = 200

// TestRevoke has streams of many users on three servers, signs out one user after the other,
// and measures how long it takes until all streams of a user have ended on all servers: of
// 100, 99 within a second. What is signed out stays out on each server.
func TestRevoke(t *testing.T, c Config) {
	var nodes []*middleware.Sessions
	for _, hub := range hubs(t, c) {
		nodes = append(nodes, &middleware.Sessions{Broadcaster: hub, Logger: silent, Key: func(r *http.Request) string { return r.URL.Query().Get("user") }})
	}
	open := func(node int, user string, stream http.HandlerFunc) (status int) {
		w := httptest.NewRecorder()
		nodes[node].Handler(stream).ServeHTTP(w, httptest.NewRequest("GET", "/?user="+user, nil))
		return w.Code
	}
	var took []time.Duration
	for i := range revocations {
		user := fmt.Sprint("user-", i)
		var begun, ended sync.WaitGroup
		for node := range servers {
			begun.Add(1)
			ended.Go(func() {
				status := open(node, user, func(_ http.ResponseWriter, r *http.Request) {
					begun.Done()
					<-r.Context().Done()
				})
				if !assert.Equal(t, 200, status) {
					begun.Done()
				}
			})
		}
		begun.Wait()
		began := time.Now()
		require.NoError(t, nodes[i%servers].Revoke(t.Context(), user, "signed out"))
		ended.Wait()
		took = append(took, time.Since(began))
		for node := range servers {
			require.Equal(t, 403, open(node, user, func(http.ResponseWriter, *http.Request) {}))
		}
	}
	slices.Sort(took)
	t.Logf("%d sign-outs on %d servers: p50 %v, p99 %v, max %v", revocations, servers, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	require.Less(t, took[len(took)*99/100], time.Second)
}

// redemptions is how many tickets TestTickets redeems.
const redemptions = 1000

// TestTickets redeems each of many tickets on three servers at the same moment: exactly one
// lets its client in.
func TestTickets(t *testing.T, c Config) {
	var nodes []*middleware.Tickets
	for _, hub := range hubs(t, c) {
		nodes = append(nodes, &middleware.Tickets{Broadcaster: hub, Secret: []byte("0123456789abcdef0123456789abcdef"), Logger: silent})
	}
	var won [servers]int
	for i := range redemptions {
		w := httptest.NewRecorder()
		nodes[i%servers].Issue(func(*http.Request) (string, error) { return "ann", nil }).ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
		var answer struct{ Ticket string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		var statuses [servers]int
		var all sync.WaitGroup
		for node := range servers {
			all.Go(func() {
				w := httptest.NewRecorder()
				nodes[node].Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, httptest.NewRequest("GET", "/?ticket="+answer.Ticket, nil))
				statuses[node] = w.Code
			})
		}
		all.Wait()
		in := 0
		for node, status := range statuses {
			if status == http.StatusOK {
				in++
				won[node]++
			} else {
				require.Equal(t, http.StatusUnauthorized, status)
			}
		}
		require.Equal(t, 1, in, "ticket %d: %v", i, statuses)
	}
	t.Logf("%d tickets on %d servers at the same moment: let in %v", redemptions, servers, won)
}
