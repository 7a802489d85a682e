package interop_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// eventStore keeps the streams of MCP's Go SDK on a Hub: a topic each.
type eventStore struct{ hub *broadcast.Hub }

func topicOf(session, stream string) string { return "mcp/" + session + "/" + stream }

func (s *eventStore) Open(context.Context, string, string) error { return nil }

func (s *eventStore) Append(ctx context.Context, session, stream string, data []byte) error {
	_, err := s.hub.Publish(ctx, broadcast.Message{Topic: topicOf(session, stream), Data: data})
	return err
}

func (s *eventStore) After(ctx context.Context, session, stream string, index int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := s.hub.Ready(ctx); err != nil { // it has read its Journal
			yield(nil, err)
			return
		}
		newest, err := s.hub.Position(ctx) // what was appended here, which the Journal may not have yielded yet
		if err != nil {
			yield(nil, err)
			return
		}
		sub, err := s.hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{topicOf(session, stream)}, Beginning: true})
		if err != nil {
			yield(nil, err)
			return
		}
		defer sub.Close()
		buf := make([]*broadcast.Message, 64)
		for i := 0; ; {
			n, err := sub.Poll(buf)
			var begin *broadcast.BeginError
			if errors.As(err, &begin) && (i > 0 || len(begin.Partial) > 0) {
				yield(nil, mcp.ErrEventsPurged)
				return
			}
			if err != nil && begin == nil {
				yield(nil, err)
				return
			}
			for _, m := range buf[:n] {
				if i > index && !yield(m.Data, nil) {
					return
				}
				i++
			}
			if n > 0 || err != nil {
				continue
			}
			if at := sub.Position(); at.Epoch() == newest.Epoch() && at.Seq() >= newest.Seq() {
				if i <= index { // fewer than the client has: the log is another one
					yield(nil, mcp.ErrEventsPurged)
				}
				return // all that there is; the SDK sends what follows
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
		}
	}
}

func (s *eventStore) SessionClosed(context.Context, string) error { return nil } // Hub.TopicTTL forgets its topics

// The store is that of the page.
func TestEventStoreIsThatOfTheDocs(t *testing.T) {
	code, err := os.ReadFile("mcp_test.go")
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/interop.md")
	require.NoError(t, err)
	recipe := regexp.MustCompile(`(?ms)^type eventStore .*^func \(s \*eventStore\) SessionClosed[^\n]*`).FindString(string(code))
	require.NotEmpty(t, recipe)
	require.True(t, strings.Contains(string(page), "\n"+recipe+"\n"))
}

// mcpServer serves a tool of MCP's Go SDK whose progress is what the channel says, with a store,
// and returns what cuts all of its connections.
func mcpServer(t *testing.T, hub *broadcast.Hub, pieces <-chan string) (url string, cut func()) {
	server := mcp.NewServer(&mcp.Implementation{Name: "answers", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "answer"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		var text string
		for word := range pieces {
			text += word
			err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Message: word, Progress: float64(len(text))})
			if !assert.NoError(t, err) {
				break
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{EventStore: &eventStore{hub}})
	var mu sync.Mutex
	conns := make(map[net.Conn]bool)
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		mu.Lock()
		defer mu.Unlock()
		conns[c] = true
		return ctx
	}
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return s.URL, func() {
		mu.Lock()
		defer mu.Unlock()
		for c := range conns {
			_ = c.Close()
			delete(conns, c)
		}
	}
}

// MCP's Go SDK resumes after a cut from a store on a Hub, and has each message once and in order.
func TestMCPGoRecipe(t *testing.T) {
	hub, pieces := new(broadcast.Hub), make(chan string)
	url, cut := mcpServer(t, hub, pieces)
	got := make(chan string, len(words)+1)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { got <- r.Params.Message },
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: transport}, DisableStandaloneSSE: true},
		&mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"}) // later ones cannot resume
	require.NoError(t, err)
	defer session.Close()
	result := make(chan *mcp.CallToolResult, 1)
	go func() {
		params := &mcp.CallToolParams{Name: "answer", Arguments: map[string]any{}}
		params.SetProgressToken("token")
		r, err := session.CallTool(ctx, params)
		assert.NoError(t, err)
		result <- r
	}()
	next := func(want string) {
		t.Helper()
		select {
		case word := <-got:
			require.Equal(t, want, word)
		case <-ctx.Done():
			require.Fail(t, "it waited in vain for "+want)
		}
	}
	for i, word := range words {
		select {
		case pieces <- word:
		case <-ctx.Done():
			require.Fail(t, "the tool has ended")
		}
		switch {
		case i < 2:
			next(word)
		case i == 2:
			next(word)
			cut()
		}
	}
	close(pieces)
	for _, word := range words[3:] {
		next(word)
	}
	r := <-result
	require.NotNil(t, r)
	require.Equal(t, strings.Join(words, ""), r.Content[0].(*mcp.TextContent).Text)
	require.Empty(t, got)
}

// A store that has lost events says so instead of returning the rest.
func TestEventStoreReportsLoss(t *testing.T) {
	for _, test := range []struct {
		name   string
		events string
		keep   int
		want   string
	}{
		{"all are kept", "0 1 2 3 4 5", 8, "3 4 5 "},
		{"none came since", "0 1 2", 8, ""},
		{"the oldest were evicted", "0 1 2 3 4 5", 4, "lost"},
		{"the log has been lost, and the client has what it had", "", 8, "lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := &eventStore{&broadcast.Hub{Keep: test.keep}}
			for _, data := range strings.Fields(test.events) {
				require.NoError(t, store.Append(t.Context(), "session", "stream", []byte(data)))
			}
			var got string
			for data, err := range store.After(t.Context(), "session", "stream", 2) {
				if err != nil {
					got += "lost"
					break
				}
				got += string(data) + " "
			}
			require.Equal(t, test.want, got)
		})
	}
}

// Over a Journal the store returns what its Hub has published, and what there was before a restart,
// also where the Hub has not read it yet.
func TestEventStoreWaitsForItsHub(t *testing.T) {
	for _, test := range []struct {
		name    string
		restart bool
	}{
		{"its own events, which the Journal has not yielded", false},
		{"a Hub that has just been started", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				journal := new(broadcasttest.Journal)
				start := func() (store *eventStore, stop func()) {
					hub := &broadcast.Hub{Journal: journal, Logger: silent}
					ctx, cancel := context.WithCancel(t.Context())
					ran := make(chan error, 1)
					go func() { ran <- hub.Run(ctx) }()
					return &eventStore{hub}, func() {
						cancel()
						<-ran
						require.NoError(t, hub.Close())
					}
				}
				store, stop := start()
				add := func(data ...string) {
					for _, data := range data {
						require.NoError(t, store.Append(t.Context(), "session", "stream", []byte(data)))
						require.NoError(t, store.Append(t.Context(), "session", "other", []byte(data)))
					}
				}
				add("0", "1", "2", "3")
				synctest.Wait()
				if test.restart {
					stop()
					journal = journal.Node()
					journal.Hold()
					store, stop = start()
				} else {
					journal.Hold()
					add("4", "5")
				}
				defer stop()
				time.AfterFunc(time.Second, journal.Release)
				var got []string
				for data, err := range store.After(t.Context(), "session", "stream", 1) {
					require.NoError(t, err)
					got = append(got, string(data))
				}
				want := []string{"2", "3", "4", "5"}
				if test.restart {
					want = want[:2]
				}
				require.Equal(t, want, got)

				journal.Hold()
				defer journal.Release()
				add("6")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				for _, err := range store.After(ctx, "session", "stream", 8) {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					return
				}
				require.Fail(t, "it ended without what the Journal holds back")
			})
		})
	}
}
