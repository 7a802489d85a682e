package inspect

import (
	"embed"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// Streamer is implemented by sse.Handler and ws.Handler.
type Streamer interface {
	// Stats returns the handler's counters.
	Stats() fanfare.StreamStats

	// Streams returns snapshots of open streams, at most so many, and those to look at first.
	Streams(most int) []fanfare.StreamInfo
}

// Handler is an http.Handler that serves the page at any path. The zero Handler works and has
// nothing to show. Its fields are set before the first request.
type Handler struct {
	// Hubs are the Hubs to show, by the name that they have on the page. If nil, there are none.
	Hubs map[string]*broadcast.Hub

	// Handlers are the handlers whose streams to show, by the name that they have on the page.
	// If nil, there are none.
	Handlers map[string]Streamer

	// Logger gets what the event stream of a topic logs. If nil, slog.Default().
	Logger *slog.Logger

	once  sync.Once
	tails map[string]*sse.Handler // by the name of the Hub; set by once
}

const (
	pageSize = 100 // topics or streams in one answer
	tailLast = 20  // messages with which a tail begins
)

//go:embed page
var files embed.FS

// ServeHTTP answers GET and HEAD: with the page, or with what the query asks for.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.once.Do(h.setUp)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "inspect: only GET and HEAD are answered: nothing can be changed here", http.StatusMethodNotAllowed)
		return
	}
	query := r.URL.Query()
	switch show := query.Get("show"); show {
	case "":
		serveFile(w, "page.html", "text/html; charset=utf-8")
	case "script":
		serveFile(w, "page.js", "text/javascript; charset=utf-8")
	case "style":
		serveFile(w, "page.css", "text/css; charset=utf-8")
	case "overview":
		serveJSON(w, h.overview())
	case "topics":
		hub := h.Hubs[query.Get("hub")]
		if hub == nil {
			http.Error(w, "inspect: no such hub", http.StatusNotFound)
			return
		}
		serveJSON(w, pageOfTopics(hub, query.Get("after"), query.Get("has")))
	case "streams":
		handler := h.Handlers[query.Get("handler")]
		if handler == nil {
			http.Error(w, "inspect: no such handler", http.StatusNotFound)
			return
		}
		serveJSON(w, streams(handler))
	case "tail":
		h.serveTail(w, r)
	default:
		http.Error(w, "inspect: show is none of overview, topics, streams and tail", http.StatusNotFound)
	}
}

// setUp makes a handler for the tails of each Hub.
func (h *Handler) setUp() {
	h.tails = make(map[string]*sse.Handler, len(h.Hubs))
	for name, hub := range h.Hubs {
		h.tails[name] = &sse.Handler{
			Broadcaster: hub,
			Logger:      h.Logger,
			CacheBytes:  -1, // a tail is rare: nothing is kept for the next one
			Grant: func(r *http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{r.URL.Query().Get("topic")}, Last: tailLast}, nil
			},
		}
	}
}

// serveTail streams the messages of a topic, if the Hub keeps it: a subscription to any other
// would create it.
func (h *Handler) serveTail(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	hub := h.Hubs[query.Get("hub")]
	if hub == nil {
		http.Error(w, "inspect: no such hub", http.StatusNotFound)
		return
	}
	if _, ok := hub.TopicStats(query.Get("topic")); !ok {
		http.Error(w, "inspect: no such topic", http.StatusNotFound)
		return
	}
	query.Set("envelope", "1")
	r = r.Clone(r.Context())
	r.URL.RawQuery = query.Encode()
	h.tails[query.Get("hub")].ServeHTTP(w, r)
}

func serveFile(w http.ResponseWriter, name, contentType string) {
	text, err := files.ReadFile("page/" + name)
	if err != nil {
		http.Error(w, "inspect: "+err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	setPrivate(header)
	_, _ = w.Write(text)
}

func serveJSON(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "inspect: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	setPrivate(w.Header())
	_, _ = w.Write(text)
}

func setPrivate(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
}

// pageOfTopics returns the next topics after a name, of those that have a text in theirs.
func pageOfTopics(hub *broadcast.Hub, after, has string) topicsPage {
	names := hub.TopicNames()
	page := topicsPage{All: len(names), Topics: []topic{}}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, has) })
	page.Matching = len(names)
	names = slices.DeleteFunc(names, func(name string) bool { return name <= after })
	slices.Sort(names)
	for i, name := range names {
		if i == pageSize {
			page.Next = names[i-1]
			break
		}
		if stats, ok := hub.TopicStats(name); ok { // else it was forgotten meanwhile
			page.Topics = append(page.Topics, topic{name, stats.Events, stats.Values, stats.Subscriptions, stats.Published, textOf(stats.Newest), stats.Ended})
		}
	}
	return page
}

// overview returns the statistics of all Hubs and handlers, in the order of their names.
func (h *Handler) overview() overview {
	all := overview{Hubs: []hubView{}, Handlers: []handlerView{}}
	for _, name := range slices.Sorted(maps.Keys(h.Hubs)) {
		all.Hubs = append(all.Hubs, viewOf(name, h.Hubs[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(h.Handlers)) {
		s := h.Handlers[name].Stats()
		all.Handlers = append(all.Handlers, handlerView{
			name, s.Open, s.Behind, s.Lag.Milliseconds(), s.Opened, s.Resumed, s.Messages, s.Replayed, s.Bytes, s.Gaps,
			s.Ended, s.Refused,
		})
	}
	return all
}
