package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

func TestMain(m *testing.M) { leak.Main(m) }

func get(target, after string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	r.Header.Set("Last-Event-ID", after)
	return r
}

// next returns the next price, and its ID.
func next(t *testing.T, s *ssetest.Stream) (price, string) {
	t.Helper()
	e := s.Next()
	require.Equal(t, "price", e.Type)
	var p price
	require.NoError(t, json.Unmarshal(e.Data, &p))
	require.Positive(t, p.Price)
	return p, e.ID
}

func TestPricesBeginWithTheHistoryAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		hub := broadcast.Hub{Keep: history}
		ticker := newTicker(&hub)
		go trade(ctx, &hub)
		time.Sleep(10*time.Second + time.Millisecond)

		s := ssetest.Connect(t, ticker, get("/prices?symbol=ACME&symbol=BOLT", ""))
		seen := map[string]int{}
		for range 2 * history {
			p, id := next(t, s)
			require.Empty(t, id, "the history has no IDs")
			seen[p.Symbol]++
		}
		require.Equal(t, map[string]int{"ACME": history, "BOLT": history}, seen, "a minute of each requested symbol")
		time.Sleep(250 * time.Millisecond)
		_, _ = next(t, s)
		p, id := next(t, s)
		require.WithinDuration(t, time.Now(), p.At, time.Second)

		// A page that reconnects gets exactly the prices that it missed.
		s.Close()
		time.Sleep(5 * time.Second)
		s = ssetest.Connect(t, ticker, get("/prices?symbol=ACME&symbol=BOLT", id))
		at := p.At
		for range 40 {
			p, id := next(t, s)
			require.NotEmpty(t, id)
			require.False(t, p.At.Before(at))
			at = p.At
		}
		require.WithinDuration(t, time.Now(), at, time.Millisecond*250)
	})
}

func TestInvalidRequestsAreRefused(t *testing.T) {
	ticker := newTicker(new(broadcast.Hub))
	for target, status := range map[string]int{
		"/prices": 400, "/prices?symbol=NONE": 404, "/prices?symbol=ACME&symbol=%0A": 404, "/": 200, "/nowhere": 404,
	} {
		w := httptest.NewRecorder()
		ticker.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		require.Equal(t, status, w.Code, target)
	}
}
