package clustertest

import (
	"context"
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

// revocations is how many users TestRevoke signs out.
const revocations = 200

// TestRevoke has streams of many users on three servers, signs out one user after the other,
// and measures how long it takes until all streams of a user have ended on all servers: of
// 100, 99 within a second. What is signed out stays out on each server.
func TestRevoke(t *testing.T, c Config) {
	var nodes []*middleware.Sessions
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
