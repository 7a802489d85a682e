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

// A grant is renewed before it expires: a WebSocket goes on with a token, and another event
// stream, with a new ticket, takes the place of the first. The page loses nothing and waits for
// nothing.
func TestGrantIsRenewedBeforeItExpires(t *testing.T) { inEach(t, grantIsRenewedBeforeItExpires) }

func grantIsRenewedBeforeItExpires(t *testing.T, e *engine) {
	const life = 20 * time.Second
	for _, test := range []struct {
		transport, more string
		grants, renewed int32
	}{
		{"ws", "transports: ['ws']", 1, 1},
		{"sse", "transports: ['sse']", 2, 0},
		{"sse", "transports: ['sse'], headers: { 'X-A': 'b' }", 2, 0},
	} {
		t.Run(test.more, func(t *testing.T) {
			t.Parallel()
			var grants, renewed atomic.Int32
			s := newSite(t, func(mux *http.ServeMux, hub *broadcast.Hub) {
				mountTickets(mux, hub, "/renewed", func(r *http.Request) (*fanfare.Grant, error) {
					grant := &fanfare.Grant{Topics: []string{"a"}, Renew: func(token string) (time.Time, error) {
						if token != "token of "+middleware.Identity(r.Context()) {
							return time.Time{}, &fanfare.Refusal{Status: http.StatusForbidden}
						}
						renewed.Add(1)
						return time.Time{}, nil // it does not expire any more
					}}
					if grants.Add(1) == 1 {
						grant.Expires = time.Now().Add(life)
					}
					return grant, nil
				})
			})
			p := s.open(t, e)
			p.run(withTickets("/renewed", "token: async () => 'token of ann', "+test.more))
			p.until("stream.state === 'open'")
			s.publish("one")
			p.until("got.at(-1) === 'one'")
			require.Eventually(t, func() bool { return grants.Load() == test.grants && renewed.Load() == test.renewed }, patience, 10*time.Millisecond)
			s.publish("two")
			p.until("got.at(-1) === 'two'")
			pause(life / 2) // the first grant has expired
			s.publish("three")
			p.until("got.at(-1) === 'three'")
			require.Equal(t, []string{"one", "two", "three"}, evaluate[[]string](p, "got"))
			states := evaluate[[]string](p, "states")
			require.NotContains(t, states, "waiting")
			require.NotContains(t, states, "connecting")
			require.Equal(t, test.transport, evaluate[string](p, "stream.transport"))
			require.Equal(t, []int32{test.grants, test.renewed}, []int32{grants.Load(), renewed.Load()})
			require.Empty(t, evaluate[[]int](p, "refusals"))
			p.close()
		})
	}
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
