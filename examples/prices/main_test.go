package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

func TestMain(m *testing.M) { leak.Main(m) }

func get(path string) *http.Request { return httptest.NewRequest("GET", path, nil) }

// screen is what a page shows: the newest price of each symbol.
type screen struct {
	prices [symbols]price
	gaps   int
	begins int
}

// watch shows what a stream gets for a while, and returns how old its oldest price was at most.
func (p *screen) watch(t *testing.T, s *ssetest.Stream, d time.Duration) (oldest time.Duration) {
	t.Helper()
	for n, end := 1, time.Now().Add(d); time.Now().Before(end); n++ {
		switch e := s.Next(); e.Type {
		case "gap":
			p.gaps++
		case "begin":
			p.begins++
			p.prices = [symbols]price{}
		default:
			require.Equal(t, "price", e.Type)
			var v price
			require.NoError(t, json.Unmarshal(e.Data, &v))
			p.prices[v.Symbol] = v
		}
		if n%20 == 0 {
			oldest = max(oldest, p.age())
		}
	}
	return oldest
}

// age returns how old the oldest price is.
func (p *screen) age() time.Duration {
	oldest := p.prices[0].At
	for _, v := range p.prices {
		oldest = min(oldest, v.At)
	}
	return time.Since(time.UnixMilli(oldest))
}

// slowLink returns what a page shows whose link becomes slow, and how old its oldest price is
// at most.
func slowLink(t *testing.T, path string) (shown screen, oldest time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		hub := newHub()
		prices := newPrices(hub)
		go func() { _ = trade(ctx, hub) }()
		synctest.Wait()
		s := ssetest.Connect(t, prices, get(path+"?page=a"))
		shown.watch(t, s, time.Second)
		w := httptest.NewRecorder()
		prices.ServeHTTP(w, httptest.NewRequest("POST", "/link?page=a&rate=16384", nil))
		require.Equal(t, http.StatusNoContent, w.Code)
		shown.watch(t, s, 10*time.Second)
		oldest = shown.watch(t, s, 15*time.Second)
		t.Logf("%s: the oldest price is %v old; %d gaps", path, oldest, shown.gaps)
	})
	return shown, oldest
}

func TestASlowLinkLeavesNoPriceWithAKeyBehind(t *testing.T) {
	with, oldestWith := slowLink(t, "/keyed")
	without, oldestWithout := slowLink(t, "/unkeyed")
	require.Zero(t, with.gaps)
	require.Equal(t, 1, with.begins)
	require.NotZero(t, without.gaps)
	require.Less(t, oldestWith, 8*time.Second)
	require.Greater(t, oldestWithout, 2*oldestWith)
}

// A process that starts on the log of another one goes on from its prices.
func TestPricesGoOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var journal broadcasttest.Journal
		for i := range symbols {
			_, err := journal.Append(ctx, broadcast.Message{Topic: keyed, Type: "price", Key: strconv.Itoa(i), Data: fmt.Appendf(nil, `{"s":%d,"p":7000}`, i)})
			require.NoError(t, err)
		}
		hub := newHub()
		hub.Journal = &journal
		go func() { _ = hub.Run(ctx) }()
		go func() { _ = trade(ctx, hub) }()
		time.Sleep(time.Second)
		var shown screen
		shown.watch(t, ssetest.Connect(t, newPrices(hub), get("/keyed")), 2*time.Second)
		for i, p := range shown.prices {
			require.InEpsilon(t, 7000, p.Price, 0.2, "symbol %d", i)
		}
		cancel()
		synctest.Wait()
	})
}

func TestLinksAreSetWithinReason(t *testing.T) {
	for rate, want := range map[string]int{"": 400, "1": 400, "-5000": 400, "x": 400, "0": 204, "16384": 204} {
		w := httptest.NewRecorder()
		newPrices(newHub()).ServeHTTP(w, httptest.NewRequest("POST", "/link?page=a&rate="+rate, nil))
		require.Equal(t, want, w.Code, "%q", rate)
	}
}

// Making the link slow takes nothing from the streams.
func TestMiddleware(t *testing.T) {
	for _, path := range []string{"/keyed", "/unkeyed"} {
		require.NoError(t, ssetest.Diagnose(newPrices(newHub()), get(path)))
	}
}
