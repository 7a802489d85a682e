package browsers_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// mountRefusals adds streams that are refused with the status in their path.
func mountRefusals(mux *http.ServeMux, hub *broadcast.Hub) {
	silent := slog.New(slog.DiscardHandler)
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		status, _ := strconv.Atoi(r.PathValue("status"))
		return nil, &fanfare.Refusal{Status: status}
	}
	mux.Handle("GET /refused/{status}/ws", &ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent})
	events := &sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent}
	mux.HandleFunc("GET /refused/{status}/events", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("status") == "204" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		events.ServeHTTP(w, r)
	})
}

// 204, 401 and 403 close a stream for good over each transport, and the page gets the status.
func TestRefusalsAreFinal(t *testing.T) { inEach(t, refusalsAreFinal) }

func refusalsAreFinal(t *testing.T, e *engine) {
	s := newSite(t, mountRefusals)
	p := s.open(t, e)
	for _, status := range []int{204, 401, 403} {
		for _, options := range []string{
			"transports: ['ws']", "transports: ['sse']", "transports: ['poll']", "transports: ['sse'], headers: { 'X-A': 'b' }", "transports: ['ws', 'sse', 'poll']",
			"headers: { 'X-A': 'b' }", "shared: 'user-17'",
		} {
			if status == 204 && options != "transports: ['sse']" && options != "transports: ['poll']" {
				continue // a WebSocket has no such answer
			}
			p.run(fmt.Sprintf("window.refusals = []; fanfare({ ws: '/refused/%d/ws', sse: '/refused/%d/events', %s })", status, status, options))
			p.until("stream.state === 'closed'")
			require.Equal(t, status, evaluate[int](p, "refusals.at(-1)"), options)
		}
	}
	require.Empty(t, evaluate[[]string](p, "errors"))
}

// When its Grant expires, a stream comes back with a new ticket.
func TestExpiredGrantIsRenewed(t *testing.T) { inEach(t, expiredGrantIsRenewed) }

func expiredGrantIsRenewed(t *testing.T, e *engine) {
	var tickets atomic.Int32
	s := newSite(t, func(mux *http.ServeMux, hub *broadcast.Hub) {
		silent := slog.New(slog.DiscardHandler)
		grant := func(r *http.Request) (*fanfare.Grant, error) {
			if ticket := r.URL.Query().Get("ticket"); ticket != strconv.Itoa(int(tickets.Load())) {
				return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
			}
			tickets.Add(1)
			return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(1500 * time.Millisecond)}, nil
		}
		mux.Handle("GET /tickets/ws", &ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent})
		mux.Handle("GET /tickets/events", &sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent})
		mux.HandleFunc("GET /ticket", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, tickets.Load()) })
	})
	for _, transport := range []string{"ws", "sse"} {
		began := tickets.Load()
		p := s.open(t, e)
		p.run(fmt.Sprintf(`
			const ask = (path) => async () => path + '?ticket=' + await (await fetch('/ticket')).text();
			fanfare({ ws: ask('/tickets/ws'), sse: ask('/tickets/events'), transports: ['%s'] })`, transport))
		p.until("stream.state === 'open'")
		s.publish("one")
		p.until("got.at(-1) === 'one'")
		require.Eventually(t, func() bool { return tickets.Load() >= began+3 }, 20*time.Second, 10*time.Millisecond)
		s.publish("two")
		p.until("got.at(-1) === 'two'")
		require.Equal(t, []string{"one", "two"}, evaluate[[]string](p, "got"))
		p.close()
	}
}

// Topics that are refused on a WebSocket are asked for over SSE. Where they are refused there,
// too, the page is told, and the stream goes on.
func TestRefusedTopicsKeepTheStream(t *testing.T) { inEach(t, refusedTopicsKeepTheStream) }

func refusedTopicsKeepTheStream(t *testing.T, e *engine) {
	s := newSite(t)
	for _, transports := range []string{"['ws']", "['ws', 'sse']", "['sse']", "['poll']"} {
		p := s.open(t, e)
		p.run("fanfare({ ws: '/topics/ws', sse: '/topics/events', topics: ['a'], upgrade: 60000, transports: " + transports + " })")
		p.until("stream.state === 'open'")
		p.run("stream.setTopics(['secret'])")
		p.until("refusals.at(-1) === 403")
		s.publish("still here")
		p.until("got.at(-1) === 'still here'")
		p.run("stream.setTopics(['c'])")
		if transports == "['ws']" {
			p.until("refusals.length === 2")
		} else if transports != "['poll']" {
			p.until("stream.transport === 'sse'")
			s.publishTo("c", "of c")
			p.until("got.at(-1) === 'of c'")
		}
		p.close()
	}
}

// In a worker, URLs are relative to its script.
func TestWorkers(t *testing.T) { inEach(t, workers) }

func workers(t *testing.T, e *engine) {
	s := newSite(t, func(mux *http.ServeMux, hub *broadcast.Hub) {
		mux.HandleFunc("GET /worker.js", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, `import { Fanfare } from './fanfare.js';
				for (const transport of ['ws', 'sse', 'poll']) {
					const stream = new Fanfare({ ws: 'ws', sse: './events', transports: [transport], shared: transport });
					stream.onopen = () => postMessage(transport);
					stream.onmessage = ({ data, origin }) => postMessage(transport + data + (origin === location.origin));
				}`)
		})
	})
	p := s.open(t, e)
	p.run("window.heard = []; new Worker('/worker.js', { type: 'module' }).onmessage = ({ data }) => heard.push(data)")
	p.until("heard.length === 3")
	s.publish("!")
	p.until("['ws', 'sse', 'poll'].every((transport) => heard.includes(transport + '!true'))")
}
