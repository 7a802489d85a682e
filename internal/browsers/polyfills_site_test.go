package browsers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// ways are the two kinds of streams. The second one is detached.
var ways = []string{"attached", "detached"}

// polyfillSite is a site with streams for polyfills: their heartbeats and retries are fast,
// and it records each request.
type polyfillSite struct {
	*site
	refuses atomic.Bool

	mu    sync.Mutex // guards what follows
	asked map[string][]asked
}

// asked is what a client asked for in one request.
type asked struct {
	header string // Last-Event-ID
	query  url.Values
}

const nodeModules = "../interop/node/node_modules"

// needsPolyfills skips the test if npm has not installed the polyfills.
func needsPolyfills(t *testing.T) {
	t.Helper()
	for _, name := range []string{"event-source-polyfill", "@microsoft/fetch-event-source"} {
		if _, err := os.Stat(filepath.Join(nodeModules, name)); err != nil {
			t.Skipf("%s is not installed: run npm install in internal/interop/node", name)
		}
	}
}

func newPolyfillSite(t *testing.T) *polyfillSite {
	s := &polyfillSite{asked: make(map[string][]asked)}
	s.site = newSite(t, s.mount)
	return s
}

func (s *polyfillSite) mount(mux *http.ServeMux, hub *broadcast.Hub) {
	mux.Handle("GET /npm/", http.StripPrefix("/npm/", http.FileServer(http.Dir(nodeModules))))
	mux.HandleFunc("GET /polyfills", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, polyfillPage)
	})
	grant := func(*http.Request) (*fanfare.Grant, error) {
		if s.refuses.Load() {
			return nil, &fanfare.Refusal{Status: http.StatusServiceUnavailable}
		}
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}
	for i, way := range ways {
		events := &sse.Handler{Broadcaster: hub, Grant: grant, Detach: i == 1, Logger: slog.New(slog.DiscardHandler),
			Options: sse.Options{Retry: 50 * time.Millisecond, Heartbeat: 100 * time.Millisecond}}
		mux.HandleFunc("GET /"+way+"/{client}", func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			client := r.PathValue("client")
			s.asked[client] = append(s.asked[client], asked{r.Header.Get("Last-Event-ID"), r.URL.Query()})
			s.mu.Unlock()
			events.ServeHTTP(w, r)
		})
	}
}

// askedBy returns the requests of a client, in order.
func (s *polyfillSite) askedBy(client string) []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked[client])
}

// elsewhere publishes as another server would: to the journal.
func (s *polyfillSite) elsewhere(topic, text string) {
	_, err := s.journal.Append(context.Background(), broadcast.Message{Topic: topic, Data: []byte(text)})
	require.NoError(s.t, err)
}

// openPolyfills opens the page of the polyfills.
func (s *polyfillSite) openPolyfills(t *testing.T, e *engine) *tab {
	t.Helper()
	return e.open(t, s.url("/polyfills"))
}

// subscribe starts a client in a page of its own, and waits until its stream is open.
func (s *polyfillSite) subscribe(t *testing.T, e *engine, client, path string) *tab {
	t.Helper()
	p := s.openPolyfills(t, e)
	p.run(fmt.Sprintf("clients[%q](%q)", client, path))
	p.until("states.includes('open')")
	return p
}

// polyfillPage is a page that keeps what polyfills receive in variables, for the test to read.
var polyfillPage = strings.TrimSpace(`
<!doctype html><meta charset="utf-8"><title>polyfills</title><link rel="icon" href="data:,">
<script src="/npm/event-source-polyfill/src/eventsource.js"></script>
<script>
window.polyfills = [EventSourcePolyfill];
window.kept = fetch;
window.fetch = undefined; // the polyfill checks it once
</script>
<script src="/npm/event-source-polyfill/src/eventsource.js"></script>
<script>
polyfills.push(EventSourcePolyfill);
window.fetch = kept;
</script>
<script type="importmap">
{
  "imports": {
    "@microsoft/fetch-event-source": "/npm/@microsoft/fetch-event-source/lib/esm/index.js",
    "/npm/@microsoft/fetch-event-source/lib/esm/fetch": "/npm/@microsoft/fetch-event-source/lib/esm/fetch.js",
    "/npm/@microsoft/fetch-event-source/lib/esm/parse": "/npm/@microsoft/fetch-event-source/lib/esm/parse.js"
  }
}
</script>
<script type="module">
import { fetchEventSource, EventStreamContentType } from '@microsoft/fetch-event-source';
window.got = [];
window.fired = [];
window.blank = 0;
window.states = [];
const take = (type, id, data) => {
  window.got.push(type === 'gap' ? type : data);
  window.fired.push({ Type: type, ID: id, Data: data });
};
const follow = (source, types = []) => {
  for (const type of ['message', 'gap', ...types]) source.addEventListener(type, (e) => take(e.type, e.lastEventId, e.data));
  source.onopen = () => window.states.push('open');
  source.onerror = ({ error }) => window.states.push(source.readyState === 2 ? 'gave up' : error ? 'error' : 'closed');
};
const [overFetch, overXHR] = window.polyfills;
const heartbeatTimeout = 4000; // they reconnect after it
class RetriableError extends Error {}
class FatalError extends Error {}
window.clients = {
  'EventSource': (url, types) => follow(new EventSource(url), types),
  'event-source-polyfill': (url, types) => follow(new overFetch(url, { heartbeatTimeout }), types),
  'event-source-polyfill over XMLHttpRequest': (url, types) => follow(new overXHR(url, { heartbeatTimeout }), types),
  'event-source-polyfill over XMLHttpRequest, no-cache': (url) => follow(new overXHR(url, { heartbeatTimeout, headers: { 'Cache-Control': 'no-cache' } })),
  // As in its README.
  'fetch-event-source': (url) => {
    fetchEventSource(url, {
      async onopen(response) {
        if (response.ok && response.headers.get('content-type') === EventStreamContentType) window.states.push('open');
        else if (response.status >= 400 && response.status < 500 && response.status !== 429) throw new FatalError();
        else throw new RetriableError();
      },
      onmessage({ event, id, data }) {
        if (!event && !data) window.blank++;
        else take(event || 'message', id, data);
      },
      onclose() {
        window.states.push('closed');
        throw new RetriableError();
      },
      onerror(err) {
        window.states.push('error');
        if (err instanceof FatalError) throw err;
      },
    });
  },
  'fetch-event-source, at its simplest': async (url) => {
    await fetchEventSource(url, {
      async onopen() { window.states.push('open'); },
      onmessage: ({ data }) => data && take('message', '', data),
    });
    window.states.push('done');
  },
};
window.hide = (hidden) => { // a page of a headless browser is never hidden
  Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
};
window.loaded = true;
</script>
`)
