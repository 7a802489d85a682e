package browsers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/browser"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// site is a server at one address that can be killed and started again, with a network in
// front that can break transports.
type site struct {
	t       *testing.T
	address string
	journal broadcasttest.Journal // the log that all its servers share
	more    []func(*http.ServeMux, *broadcast.Hub)

	killsWebSockets atomic.Bool // once they are open
	holdsResponses  atomic.Bool // until they have ended
	streams         atomic.Int32

	mu     sync.Mutex // guards what follows
	hub    *broadcast.Hub
	server *http.Server
	conns  map[net.Conn]struct{}
	stop   func()
	served chan struct{} // closed once the server accepts no more
}

// newSite starts a site. The functions of more add routes to each of its servers.
func newSite(t *testing.T, more ...func(*http.ServeMux, *broadcast.Hub)) *site {
	s := &site{t: t, address: "127.0.0.1:0", more: more}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *site) url(path string) string { return "http://" + s.address + path }

// start starts a server, which shares nothing but the journal with the one before.
func (s *site) start() {
	listener, err := net.Listen("tcp", s.address)
	require.NoError(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address = listener.Addr().String()
	silent := slog.New(slog.DiscardHandler)
	hub := &broadcast.Hub{Keep: 4096, Journal: s.journal.Node(), Logger: silent}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = hub.Run(ctx)
	}()
	mux := http.NewServeMux()
	mux.Handle("GET /fanfare.js", browser.Handler())
	mux.Handle("GET /fanfare-shared.js", browser.Handler())
	mux.HandleFunc("GET /other", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>other</title><script>window.loaded = true</script>")
	})
	mux.HandleFunc("GET /sandboxed", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, sandboxed)
	})
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page)
	})
	mux.HandleFunc("GET /odd", func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.NewWriter(w, r, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer stream.Close()
		if stream.Send(odd...) == nil {
			<-stream.Context().Done()
		}
	})
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		s.streams.Add(1)
		context.AfterFunc(r.Context(), func() { s.streams.Add(-1) })
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}
	mux.Handle("GET /events", s.network(&sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent}))
	receive := func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
		return func(_ ws.MessageType, data []byte) error {
			_, err := hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: data})
			return err
		}
	}
	mux.Handle("GET /anywhere/ws", &ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent, Receive: receive, Options: ws.Options{CheckOrigin: func(*http.Request) error { return nil }}})
	mux.Handle("GET /ws", s.network(&ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent,
		Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			if s.killsWebSockets.Load() {
				time.AfterFunc(100*time.Millisecond, func() { _ = c.CloseNow() })
			}
			return receive(r, c)
		}}))
	s.mountGrants(mux, hub, silent)
	soakGrant := func(r *http.Request) (*fanfare.Grant, error) {
		g, err := grant(r)
		g.Beginning = r.URL.Query().Has("begins")
		return g, err
	}
	mux.Handle("GET /soak/events", s.network(&sse.Handler{Broadcaster: hub, Grant: soakGrant, Logger: silent, Options: sse.Options{Heartbeat: time.Second}}))
	mux.Handle("GET /soak/ws", s.network(&ws.Handler{Broadcaster: hub, Grant: soakGrant, Logger: silent, Options: ws.Options{PingInterval: time.Second},
		Receive: func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			if s.killsWebSockets.Load() {
				time.AfterFunc(100*time.Millisecond, func() { _ = c.CloseNow() })
			}
			return func(ws.MessageType, []byte) error { return nil }
		}}))
	for _, add := range s.more {
		add(mux, hub)
	}
	server := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ConnState: func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if state == http.StateNew {
			s.conns[c] = struct{}{}
		} else if state == http.StateClosed {
			delete(s.conns, c)
		}
	}}
	server.SetKeepAlivesEnabled(false) // a connection that deafen has made deaf is used by nothing else
	s.hub, s.server, s.conns = hub, server, make(map[net.Conn]struct{})
	s.stop = func() {
		cancel()
		<-ended
	}
	served := make(chan struct{})
	s.served = served
	go func() {
		defer close(served)
		_ = server.Serve(deafListener{listener})
	}()
}

// mountGrants adds streams with state (/state/), and with topics that the client chooses: a and
// b, but not secret, over SSE also c (/topics/). Both count as the site's.
func (s *site) mountGrants(mux *http.ServeMux, hub *broadcast.Hub, silent *slog.Logger) {
	count := func(r *http.Request, grant *fanfare.Grant) *fanfare.Grant {
		s.streams.Add(1)
		context.AfterFunc(r.Context(), func() { s.streams.Add(-1) })
		return grant
	}
	state := func(r *http.Request) (*fanfare.Grant, error) {
		return count(r, &fanfare.Grant{Topics: []string{"a"}, Last: 100, Snapshot: snapshotOf("snapshot")}), nil
	}
	topics := func(changes bool, allowed ...string) func(r *http.Request) (*fanfare.Grant, error) {
		check := func(topics []string) (*fanfare.Grant, error) {
			for _, topic := range topics {
				if !slices.Contains(allowed, topic) {
					return nil, &fanfare.Refusal{Status: http.StatusForbidden}
				}
			}
			return &fanfare.Grant{Topics: topics}, nil
		}
		return func(r *http.Request) (*fanfare.Grant, error) {
			grant, err := check(r.URL.Query()["topic"])
			if err != nil {
				return nil, err
			}
			if changes {
				grant.Change = check
			}
			return count(r, grant), nil
		}
	}
	mux.Handle("GET /state/ws", &ws.Handler{Broadcaster: hub, Grant: state, Logger: silent})
	mux.Handle("GET /state/events", &sse.Handler{Broadcaster: hub, Grant: state, Logger: silent})
	mux.Handle("GET /topics/ws", &ws.Handler{Broadcaster: hub, Grant: topics(true, "a", "b"), Logger: silent})
	mux.Handle("GET /topics/events", &sse.Handler{Broadcaster: hub, Grant: topics(false, "a", "b", "c"), Logger: silent})
}

// snapshotOf is a Grant's Snapshot of one message.
func snapshotOf(text string) func(context.Context) ([]broadcast.Message, error) {
	return func(context.Context) ([]broadcast.Message, error) {
		return []broadcast.Message{{Topic: "a", Data: []byte(text)}}, nil
	}
}

// network buffers every response but those of long polling, while holdsResponses is set.
func (s *site) network(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.holdsResponses.Load() && r.Header.Get("Upgrade") == "" && r.URL.Query().Get("poll") == "" {
			<-r.Context().Done()
			return
		}
		next.ServeHTTP(w, r)
	})
}

// kill ends the server like a crash: it closes all connections at once. Those of WebSockets are
// no longer the server's. Clients connect meanwhile: a connection that it has accepted last must
// not stay with a Hub that nobody runs.
func (s *site) kill() {
	s.mu.Lock()
	server, served, stop := s.server, s.served, s.stop
	s.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Close()
	<-served
	s.cut()
	stop()
}

// end shuts the server down in order: streams send what is pending, and end.
func (s *site) end() {
	s.mu.Lock()
	server, stop := s.server, s.stop
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(s.t, server.Shutdown(ctx))
	stop()
}

func (s *site) publish(text string) { s.publishTo("a", text) }

func (s *site) publishTo(topic, text string) {
	s.put(broadcast.Message{Topic: topic, Data: []byte(text)})
}

func (s *site) put(m broadcast.Message) {
	s.mu.Lock()
	hub := s.hub
	s.mu.Unlock()
	_, err := hub.Publish(context.Background(), m)
	require.NoError(s.t, err)
}

// eventuallyStreams waits until the site has n streams.
func (s *site) eventuallyStreams(n int32) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.streams.Load() == n }, patience, 10*time.Millisecond, "%d streams", n)
}

// odd are events that are easy to encode wrongly.
var odd = []sse.Event{
	{Data: []byte("plain")},
	{Data: []byte("")},
	{Data: []byte(" a space first")},
	{Data: []byte(":a colon first")},
	{Data: []byte("data: a field's name")},
	{Data: []byte("two\nlines")},
	{Data: []byte("three\rlines\r\nin two ways")},
	{Data: []byte("a last line that is empty\n")},
	{Data: []byte("\n\n")},
	{Data: []byte("über ✓ \U0001F3BA \x00 \u2028")},
	{Type: "a type: with a colon", ID: "an id: with a colon", Data: []byte("x")},
	{Type: " spaced ", ID: " spaced ", Data: []byte("x")},
	{ID: "7", Data: []byte("with an id")},
	{Data: []byte("the id stays")},
	{ID: "8"},
	{Data: []byte("an id alone has moved it")},
}

// page is a page that keeps what streams receive in variables, for the test to read.
var page = strings.TrimSpace(`
<!doctype html><meta charset="utf-8"><title>streams</title><link rel="icon" href="data:,">
<script>
window.errors = [];
addEventListener('error', ({ message }) => window.errors.push(message));
addEventListener('unhandledrejection', ({ reason }) => window.errors.push(String(reason)));
</script>
<script type="module">
import { Fanfare } from '/fanfare.js';
window.got = [];
window.ids = [];
window.times = [];
window.states = [];
window.refusals = [];
window.values = {};
window.begun = [];
window.ended = 0;
window.ticks = 0; // how long the page has run, in tenths of a second
setInterval(() => window.ticks++, 100);
window.Fanfare = Fanfare;
window.fanfare = (options) => {
  const stream = new Fanfare({ ws: '/ws', sse: '/events', retry: 50, maxRetry: 400, good: 600, patience: 1000, upgrade: 500, ...options });
  stream.onmessage = ({ data, lastEventId, topic, key, removed }) => {
    if (removed) delete window.values[topic + '/' + key];
    else if (key) window.values[topic + '/' + key] = data;
    else window.got.push(data) && window.ids.push(lastEventId);
  };
  stream.onbegin = ({ topics, partial }) => {
    window.begun.push(partial.join());
    if (!topics) window.got.length = window.ids.length = 0;
    for (const name in window.values) if (!topics || topics.includes(name.split('/')[0])) delete window.values[name];
  };
  stream.onended = () => window.ended++;
  stream.onerror = ({ status }) => status && window.refusals.push(status);
  stream.ongap = () => window.got.push('gap');
  stream.onstatechange = () => {
    window.states.push(stream.state === 'open' ? stream.transport : stream.state);
    window.times.push(Math.round(performance.now()));
  };
  window.stream = stream;
};
window.eventsource = () => {
  const source = new EventSource('/events');
  source.onmessage = ({ data }) => window.got.push(data);
  source.onopen = () => window.states.push('sse');
};
window.odd = (types) => {
  const source = new EventSource('/odd');
  for (const type of types) source.addEventListener(type, (e) => window.got.push([e.type, e.lastEventId, e.data].join('|')));
};
window.websocket = () => {
  const socket = new WebSocket('/ws');
  socket.onmessage = ({ data }) => {
    const envelope = JSON.parse(data);
    if (envelope.ready) window.states.push('ws');
    if ('topic' in envelope) window.got.push(envelope.data);
  };
};
window.loaded = true;
</script>
`)

// sandboxed is a page with a frame of an opaque origin, which tells it what it receives.
var sandboxed = strings.TrimSpace(`
<!doctype html><meta charset="utf-8"><title>sandboxed</title>
<script>
window.errors = [];
addEventListener('message', ({ data }) => data.error ? window.errors.push(data.error) : (window.framed = data));
window.loaded = true;
</script>
<iframe sandbox="allow-scripts" srcdoc="
<script>
addEventListener('error', ({ message }) => parent.postMessage({ error: message }, '*'));
addEventListener('unhandledrejection', ({ reason }) => parent.postMessage({ error: String(reason) }, '*'));
</script>
<script type='module'>
import { Fanfare } from '/fanfare.js';
const stream = new Fanfare({ ws: '/anywhere/ws', shared: 'user-17' });
stream.onopen = () => stream.send('hello');
stream.onmessage = ({ data }) => parent.postMessage(data, '*');
</script>"></iframe>
`)
