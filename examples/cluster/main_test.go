package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// TestCluster kills nodes while two clients receive numbers: each gets all of them in order.
func TestCluster(t *testing.T) {
	engine, err := openEngine("", "")
	require.NoError(t, err)
	defer engine.close()
	c, err := newCluster(engine)
	require.NoError(t, err)
	defer c.close()
	front := httptest.NewServer(c.front())
	defer front.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	const enough = 60
	count := func(t *testing.T, next func(yield func(text string) bool)) {
		last := 0
		next(func(text string) bool {
			n, err := strconv.Atoi(text)
			require.NoError(t, err)
			// A number may come twice: the publisher repeats it if the result of Publish is unknown.
			require.True(t, last == 0 || n == last || n == last+1, "%d came after %d", n, last)
			if last < n && n%15 == 0 {
				c.kill(n / 15 % 3)
				require.NoError(t, c.start(n/15%3))
			}
			last = n
			return n < enough
		})
		require.Equal(t, enough, last)
	}
	var all sync.WaitGroup
	all.Go(func() {
		count(t, func(yield func(string) bool) {
			r, _ := http.NewRequestWithContext(ctx, "GET", front.URL+"/events?panel=sse", nil)
			client := sse.Client{MaxBackoff: time.Second, Retry: func(e *sse.ResponseError) bool { return e.Temporary() }}
			for e, err := range client.Events(r) {
				require.NoError(t, err)
				require.Empty(t, e.Type, "a gap")
				if !yield(string(e.Data)) {
					return
				}
			}
		})
	})
	all.Go(func() {
		count(t, func(yield func(string) bool) {
			client := ws.Client{URL: front.URL + "/ws?panel=ws", MaxBackoff: time.Second}
			for m, err := range client.Messages(ctx) {
				require.NoError(t, err)
				if !yield(string(m.Data)) {
					return
				}
			}
		})
	})
	go c.count(ctx)
	all.Wait()
}

func TestInvalidEnginesAreRefused(t *testing.T) {
	_, err := openEngine("nats://localhost", "redis://localhost")
	require.Error(t, err)
	_, err = openEngine("", "http://localhost")
	require.Error(t, err)
}
