package inspect_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/inspect"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

var silent = slog.New(slog.DiscardHandler)

// patience is how long a test waits for what must happen.
const patience = 15 * time.Second

func publish(t *testing.T, hub *broadcast.Hub, m broadcast.Message) broadcast.ID {
	t.Helper()
	id, err := hub.Publish(t.Context(), m)
	require.NoError(t, err)
	return id
}

// get decodes what the handler answers to a query.
func get[T any](t *testing.T, h http.Handler, query string) (v T) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/debug/fanfare?"+query, nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

type topics struct {
	All, Matching int
	Next          string
	Topics        []struct {
		Name                          string
		Events, Values, Subscriptions int
		Published                     uint64
		Newest                        string
		Ended                         bool
	}
}

func TestTopicsShowWhatIsKeptAndWhoReads(t *testing.T) {
	hub := &broadcast.Hub{Keep: 2, Logger: silent}
	defer hub.Close()
	for i := range 5 {
		publish(t, hub, broadcast.Message{Topic: "news", Data: fmt.Append(nil, i)})
	}
	publish(t, hub, broadcast.Message{Topic: "prices", Key: "A", Data: []byte("1")})
	publish(t, hub, broadcast.Message{Topic: "prices", Key: "A", Data: []byte("2")})
	newest := publish(t, hub, broadcast.Message{Topic: "prices", Key: "B", Data: []byte("3")})
	publish(t, hub, broadcast.Message{Topic: "answer", Data: []byte("done"), End: true})
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"news"}, Notify: func() {}})
	require.NoError(t, err)
	defer sub.Close()

	page := get[topics](t, &inspect.Handler{Hubs: map[string]*broadcast.Hub{"main": hub}}, "show=topics&hub=main")
	require.Equal(t, 3, page.All)
	require.Empty(t, page.Next)
	answer, news, prices := page.Topics[0], page.Topics[1], page.Topics[2]
	require.Equal(t, "answer", answer.Name)
	require.True(t, answer.Ended)
	require.Equal(t, "news", news.Name)
	require.Equal(t, []int{2, 0, 1}, []int{news.Events, news.Values, news.Subscriptions})
	require.EqualValues(t, 5, news.Published)
	require.Equal(t, []int{0, 2, 0}, []int{prices.Events, prices.Values, prices.Subscriptions})
	require.EqualValues(t, 3, prices.Published)
	require.Equal(t, newest.String(), prices.Newest)
}

func TestTopicsArePaged(t *testing.T) {
	const all = 10_000
	hub := &broadcast.Hub{Logger: silent}
	defer hub.Close()
	for i := range all {
		publish(t, hub, broadcast.Message{Topic: fmt.Sprintf("topic %05d", i)})
	}
	h := &inspect.Handler{Hubs: map[string]*broadcast.Hub{"main": hub}}
	seen, after := 0, ""
	for {
		page := get[topics](t, h, "show=topics&hub=main&after="+strings.ReplaceAll(after, " ", "+"))
		require.Equal(t, all, page.All)
		require.LessOrEqual(t, len(page.Topics), 100)
		for _, topic := range page.Topics {
			require.Equal(t, fmt.Sprintf("topic %05d", seen), topic.Name)
			seen++
		}
		if after = page.Next; after == "" {
			break
		}
	}
	require.Equal(t, all, seen)
	page := get[topics](t, h, "show=topics&hub=main&has=0099")
	require.Equal(t, 11, page.Matching) // 00099, and 00990 to 00999
	require.Equal(t, 11, len(page.Topics))
}

func TestStreamsShowTransportAndPosition(t *testing.T) {
	hub := &broadcast.Hub{Logger: silent}
	events := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
	sockets := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
	detached := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent, Detach: true}
	mux := http.NewServeMux()
	mux.Handle("/events", events)
	mux.Handle("/ws", sockets)
	mux.Handle("/detached", detached)
	server := httptest.NewServer(mux)
	defer server.Close()
	defer hub.Close()
	for _, path := range []string{"/events", "/detached"} {
		response, err := server.Client().Get(server.URL + path)
		require.NoError(t, err)
		defer response.Body.Close()
	}
	conn, err := ws.Dial(t.Context(), server.URL+"/ws", nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	id := publish(t, hub, broadcast.Message{Topic: "a", Data: []byte("x")})

	h := &inspect.Handler{Handlers: map[string]inspect.Streamer{"events": events, "ws": sockets, "detached": detached}}
	for _, test := range []struct {
		name, transport string
		detached        bool
	}{{"events", "sse", false}, {"detached", "sse", true}, {"ws", "ws", false}} {
		require.Eventually(t, func() bool {
			page := get[struct {
				Open    int
				Streams []struct {
					Transport        string
					Detached, Behind bool
					Seq              uint64
				}
			}](t, h, "show=streams&handler="+test.name)
			return page.Open == 1 && len(page.Streams) == 1 && page.Streams[0].Transport == test.transport &&
				page.Streams[0].Detached == test.detached && page.Streams[0].Seq == id.Seq() && !page.Streams[0].Behind
		}, patience, 5*time.Millisecond, test.name)
	}
}

// The streams with the longest lag are shown, also among many.
func TestStreamsThatLagComeFirst(t *testing.T) {
	hub := &broadcast.Hub{Logger: silent}
	h := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
	server := httptest.NewServer(h)
	defer server.Close()
	defer hub.Close()
	slow, err := server.Client().Get(server.URL) // and nobody reads it
	require.NoError(t, err)
	defer slow.Body.Close()
	for range 3 {
		response, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		defer response.Body.Close()
		go func() { _, _ = io.Copy(io.Discard, response.Body) }()
	}
	data := make([]byte, 512<<10)
	for i := range data {
		data[i] = 'x'
	}
	require.Eventually(t, func() bool {
		publish(t, hub, broadcast.Message{Topic: "a", Data: data})
		all := h.Streams(1)
		return len(all) == 1 && all[0].Behind && all[0].Lag > 100*time.Millisecond
	}, patience, 20*time.Millisecond)
	require.Len(t, h.Streams(10), 4)
	require.Empty(t, h.Streams(0))
}

type overview struct {
	Hubs []struct {
		Name, Journal, Position string
		Topics                  int
	}
	Handlers []struct{ Name string }
}

func TestJournalHealth(t *testing.T) {
	var journal broadcasttest.Journal
	followed := &broadcast.Hub{Journal: journal.Node(), Logger: silent}
	unrun := &broadcast.Hub{Journal: journal.Node(), Logger: silent}
	memory := &broadcast.Hub{Logger: silent}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); _ = followed.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	h := &inspect.Handler{Hubs: map[string]*broadcast.Hub{"a": followed, "b": unrun, "c": memory}}
	require.Eventually(t, func() bool {
		o := get[overview](t, h, "show=overview")
		return o.Hubs[0].Journal == "following" && o.Hubs[1].Journal == "lost" && o.Hubs[2].Journal == "none"
	}, patience, 10*time.Millisecond)
}

// A tail begins with what is kept, and goes on live.
func TestTail(t *testing.T) {
	hub := &broadcast.Hub{Logger: silent}
	publish(t, hub, broadcast.Message{Topic: "a", Type: "greeting", Data: []byte("before")})
	server := httptest.NewServer(&inspect.Handler{Hubs: map[string]*broadcast.Hub{"main": hub}, Logger: silent})
	defer server.Close()
	defer hub.Close()
	response, err := server.Client().Get(server.URL + "/debug?show=tail&hub=main&topic=a")
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	next := func(want string) {
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		require.Fail(t, "the stream has ended before "+want)
	}
	next(`"type":"greeting","data":"before"`)
	publish(t, hub, broadcast.Message{Topic: "a", Data: []byte("after")})
	next(`"data":"after"`)
}

func TestNothingIsChanged(t *testing.T) {
	hub := &broadcast.Hub{Logger: silent}
	defer hub.Close()
	h := &inspect.Handler{Hubs: map[string]*broadcast.Hub{"main": hub}, Logger: silent}
	for query, status := range map[string]int{
		"show=tail&hub=main&topic=unknown": 404,
		"show=tail&hub=other&topic=a":      404,
		"show=topics&hub=other":            404,
		"show=streams&handler=other":       404,
		"show=else":                        404,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/?"+query, nil))
		require.Equal(t, status, w.Code, query)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/?show=overview", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Zero(t, hub.Stats().Topics)
	_, ok := hub.TopicStats("unknown")
	require.False(t, ok)
}

// The page loads its script and style from its own URL, and runs no other.
func TestPage(t *testing.T) {
	h := new(inspect.Handler)
	for query, want := range map[string]string{"": "text/html", "show=script": "text/javascript", "show=style": "text/css"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/?"+query, nil))
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Header().Get("Content-Type"), want)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
		require.NotContains(t, w.Body.String(), "innerHTML")
	}
	require.Empty(t, get[overview](t, h, "show=overview").Hubs)
}
