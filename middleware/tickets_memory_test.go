package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/middleware"
)

// Tickets that are not used take no memory.
func TestUnusedTicketsTakeNoMemory(t *testing.T) {
	tickets := &middleware.Tickets{Logger: silent}
	h := tickets.Issue(func(*http.Request) (string, error) { return "ann", nil })
	issue(t, tickets, "ann")
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for range unusedTickets {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/ticket", nil))
	}
	grown := heap() - before
	t.Logf("%d bytes for %d tickets", grown, unusedTickets)
	require.Less(t, grown, int64(1<<20))
	require.Zero(t, tickets.Known())
	runtime.KeepAlive(tickets)
}

// Redeemed tickets are forgotten when they have expired.
func TestRedeemedTicketsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := &middleware.Tickets{Logger: silent}
		for range 4000 {
			redeem(tickets, get("/?ticket="+issue(t, tickets, "ann")))
			time.Sleep(30 * time.Millisecond)
		}
		require.LessOrEqual(t, tickets.Known(), 2100)
	})
}
