package browsers_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// mountTickets adds streams that are opened with tickets for ann: /ws and /events below path.
func mountTickets(mux *http.ServeMux, hub *broadcast.Hub, path string, grant func(*http.Request) (*fanfare.Grant, error)) {
	silent := slog.New(slog.DiscardHandler)
	tickets := &middleware.Tickets{Logger: silent}
	mux.Handle("POST "+path+"/ticket", tickets.Issue(func(*http.Request) (string, error) { return "ann", nil }))
	mux.Handle("GET "+path+"/ws", tickets.Handler(&ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent}))
	mux.Handle("GET "+path+"/events", tickets.Handler(&sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent}))
}

// withTickets are options of streams that mountTickets has added.
func withTickets(path, more string) string {
	return strings.ReplaceAll(`
		const ask = (to) => async () => to + '?ticket=' + (await (await fetch('PATH/ticket', { method: 'POST' })).json()).ticket;
		fanfare({ ws: ask('PATH/ws'), sse: ask('PATH/events'), `, "PATH", path) + more + " })"
}

// A ticket counts once, also where an EventSource has spent it in vain: the page gets the
// status of the stream, and not the 401 of a ticket that it has used.
func TestSpentTicketHidesNoStatus(t *testing.T) { inEach(t, spentTicketHidesNoStatus) }

func spentTicketHidesNoStatus(t *testing.T, e *engine) {
	var status atomic.Int32
	s := newSite(t, func(mux *http.ServeMux, hub *broadcast.Hub) {
		mountTickets(mux, hub, "/spent", func(r *http.Request) (*fanfare.Grant, error) {
			if status := status.Load(); status != 0 {
				return nil, &fanfare.Refusal{Status: int(status), RetryAfter: time.Second}
			}
			return &fanfare.Grant{Topics: []string{"a"}}, nil
		})
	})
	p := s.open(t, e)
	for _, test := range []struct {
		status int32
		state  string
	}{{http.StatusServiceUnavailable, "open"}, {http.StatusForbidden, "closed"}} {
		status.Store(test.status)
		p.run("refusals.length = 0;" + withTickets("/spent", "transports: ['sse']"))
		p.until("refusals.length > 0")
		status.Store(0)
		p.until(fmt.Sprintf("stream.state === '%s'", test.state))
		for _, got := range evaluate[[]int32](p, "refusals") {
			require.Equal(t, test.status, got)
		}
		p.run("stream.close()")
	}
}
