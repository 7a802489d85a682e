package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/starfederation/datastar-go/datastar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

const clientsPage = "../../docs/clients.md"

// recipeRoutes are the handlers of docs/clients.md.
func recipeRoutes(hub *broadcast.Hub, handle func(string, http.Handler)) {
	quick := sse.Options{Retry: 100 * time.Millisecond}
	handle("GET /board", &sse.Handler{Broadcaster: hub, Topics: []string{"board"}, Logger: silent, Options: quick})
	handle("GET /prices", &ws.Handler{
		Broadcaster: hub,
		Logger:      silent,
		Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"prices"}, Beginning: true}, nil
		},
		Encode: func(m *broadcast.Message) (ws.MessageType, []byte, bool) {
			return ws.Text, fmt.Appendf(nil, `<b id="price-%s">%s</b>`, html.EscapeString(m.Key), html.EscapeString(string(m.Data))), true
		},
		Notice: func(n fanfare.Notice) (ws.MessageType, []byte, bool) {
			return ws.Text, []byte("<!-- -->"), n.Kind == fanfare.Begin
		},
	})
	hub.Retain = map[string]broadcast.Retention{"few": {Keep: 2}}
	for topic, options := range map[string]sse.Options{"lines": quick, "few": quick, "brief": {Retry: 100 * time.Millisecond, MaxAge: 200 * time.Millisecond}} {
		handle("GET /"+topic, &sse.Handler{Broadcaster: hub, Topics: []string{topic}, Logger: silent, Options: options})
	}
	handle("GET /list", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<li>all</li>")
	}))
	handle("GET /closed", &ws.Handler{
		Broadcaster: hub,
		Logger:      silent,
		Grant: func(r *http.Request) (*fanfare.Grant, error) {
			status, err := strconv.Atoi(r.URL.Query().Get("status"))
			if err == nil {
				return nil, &fanfare.Refusal{Status: status}
			}
			return &fanfare.Grant{Topics: []string{"over"}, Beginning: true}, nil
		},
	})
	handle("GET /prices4", &ws.Handler{
		Broadcaster: hub,
		Logger:      silent,
		Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"prices4"}, Beginning: true}, nil
		},
		Encode: func(m *broadcast.Message) (ws.MessageType, []byte, bool) {
			return ws.Text, fmt.Appendf(nil, `<b id="price-%s" hx-swap-oob="true">%s</b>`, html.EscapeString(m.Key), html.EscapeString(string(m.Data))), true
		},
		Notice: func(n fanfare.Notice) (ws.MessageType, []byte, bool) {
			return ws.Text, []byte("{}"), n.Kind == fanfare.Begin // htmx shows nothing of it
		},
	})
	if _, err := hub.Publish(context.Background(), broadcast.Message{Topic: "over", End: true}); err != nil {
		panic(err)
	}
	handle("GET /comments", &sse.Handler{
		Broadcaster: hub,
		Topics:      []string{"comments"},
		Logger:      silent,
		Options:     quick,
		Encode: func(m *broadcast.Message) (sse.Event, bool) {
			return sse.Event{Data: fmt.Appendf(nil, `<turbo-stream action="append" target="comments"><template>%s</template></turbo-stream>`, m.Data)}, true
		},
		Notice: func(n fanfare.Notice) (sse.Event, bool) {
			return sse.Event{Data: []byte(`<turbo-stream action="refresh"></turbo-stream>`)}, n.Kind == fanfare.Gap
		},
	})
}

// The event of the recipe for Datastar is that of its Go SDK, and each end of its stream is a cut.
func TestDatastarRecipe(t *testing.T) {
	const text = "<ul id=\"list\">\n  <li>one</li>\n</ul>"
	hub := new(broadcast.Hub)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sdk", func(w http.ResponseWriter, r *http.Request) {
		_ = datastar.NewSSE(w, r).PatchElements(text)
	})
	mux.Handle("GET /feed", &sse.Handler{
		Broadcaster: hub,
		Logger:      silent,
		Abort:       true,
		Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"feed"}, Last: 1}, nil
		},
		Encode: func(m *broadcast.Message) (sse.Event, bool) {
			html := strings.ReplaceAll(string(m.Data), "\n", "\nelements ")
			return sse.Event{Type: "datastar-patch-elements", Data: []byte("elements " + html)}, true
		},
		Notice: func(n fanfare.Notice) (sse.Event, bool) {
			return sse.Event{Type: "datastar-patch-elements", Data: []byte(`elements <p id="gap">Messages are missing: reload the page.</p>`)}, n.Kind == fanfare.Gap
		},
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "feed", Data: []byte(text)})
	require.NoError(t, err)
	var events []sse.Event
	for _, path := range []string{"/sdk", "/feed"} {
		response, err := server.Client().Get(server.URL + path)
		require.NoError(t, err)
		defer response.Body.Close()
		reader := sse.NewReader(response.Body)
		e, err := reader.Read()
		require.NoError(t, err)
		events = append(events, e)
		if path == "/feed" {
			require.NoError(t, hub.Close())
			_, err := reader.Read()
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
		}
	}
	require.Equal(t, events[0].Type, events[1].Type)
	require.Equal(t, string(events[0].Data), string(events[1].Data))
}

// patches is the response that Datastar's SDK writes to.
type patches struct{ bytes.Buffer }

func (*patches) Header() http.Header { return http.Header{} }
func (*patches) WriteHeader(int)     {}
func (*patches) Flush()              {}

// publishPatches publishes the events that write sends.
func publishPatches(ctx context.Context, hub *broadcast.Hub, topic string, write func(*datastar.ServerSentEventGenerator) error) error {
	response := new(patches)
	if err := write(datastar.NewSSE(response, new(http.Request).WithContext(ctx))); err != nil {
		return err
	}
	for events := sse.NewReader(response); ; {
		e, err := events.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := hub.Publish(ctx, broadcast.Message{Topic: topic, Type: e.Type, Data: e.Data}); err != nil {
			return err
		}
	}
}

// The code is that of the page.
func TestPatchesRecipeIsThatOfTheDocs(t *testing.T) {
	code, err := os.ReadFile("client_recipes_test.go")
	require.NoError(t, err)
	recipe := regexp.MustCompile(`(?ms)^// patches is .*?^func publishPatches.*?^}\n`).FindString(string(code))
	require.NotEmpty(t, recipe)
	require.Equal(t, recipe, snippet(t, "Datastar", "go", 1))
}

// What Datastar's SDK writes for one request, a Handler sends to all clients: the same events, and
// after a cut those that the client has missed.
func TestDatastarPatchesRecipe(t *testing.T) {
	writes := []func(*datastar.ServerSentEventGenerator) error{
		func(s *datastar.ServerSentEventGenerator) error {
			return s.PatchElements("<li>one</li>\n<li>two</li>", datastar.WithSelectorID("list"), datastar.WithModeAppend())
		},
		func(s *datastar.ServerSentEventGenerator) error {
			return s.MarshalAndPatchSignals(fields{"count": 2})
		},
		func(s *datastar.ServerSentEventGenerator) error {
			return errors.Join(s.RemoveElementByID("gone"), s.ConsoleLog("removed"))
		},
	}
	hub := new(broadcast.Hub)
	server := nodeServer(t, func(_ *broadcast.Hub, handle func(string, http.Handler)) {
		handle("GET /sdk", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := datastar.NewSSE(w, r)
			for _, write := range writes {
				assert.NoError(t, write(s))
			}
		}))
		handle("GET /feed", &sse.Handler{
			Broadcaster: hub, Topics: []string{"feed"}, Abort: true, Logger: silent, Options: sse.Options{Retry: 20 * time.Millisecond},
			Notice: func(n fanfare.Notice) (sse.Event, bool) { return sse.Event{Type: "gap"}, n.Kind == fanfare.Gap },
		})
	})
	response, err := server.Client().Get(server.URL + "/sdk")
	require.NoError(t, err)
	defer response.Body.Close()
	var want []string
	for events := sse.NewReader(response.Body); ; {
		e, err := events.Read()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		want = append(want, e.Type+" "+string(e.Data))
	}
	require.Len(t, want, 4)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := &sse.Client{HTTPClient: server.Client(), MaxBackoff: 20 * time.Millisecond, Logger: silent}
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/feed", nil)
	require.NoError(t, err)
	got := make(chan string, len(want))
	go func() {
		for e, err := range client.Events(r) {
			if err == nil {
				got <- e.Type + " " + string(e.Data)
			}
		}
	}()
	require.Eventually(t, func() bool {
		topic, _ := hub.TopicStats("feed")
		return topic.Subscriptions > 0
	}, 10*time.Second, time.Millisecond)
	next := func(n int) (events []string) {
		for range n {
			select {
			case e := <-got:
				events = append(events, e)
			case <-ctx.Done():
				require.Fail(t, "it waited in vain")
			}
		}
		return events
	}
	require.NoError(t, publishPatches(ctx, hub, "feed", writes[0]))
	require.Equal(t, want[:1], next(1))
	post(t, server.URL+"/cut", "")
	require.NoError(t, publishPatches(ctx, hub, "feed", writes[1]))
	require.NoError(t, publishPatches(ctx, hub, "feed", writes[2]))
	require.Equal(t, want[1:], next(3))
}

// snippet returns the code of a language below a heading of docs/clients.md: the nth block,
// from 0.
func snippet(t *testing.T, heading, language string, nth int) string {
	t.Helper()
	text, err := os.ReadFile(clientsPage)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "```"+language+"\n")
	require.Greater(t, len(blocks), nth+1, heading)
	code, _, _ := strings.Cut(blocks[nth+1], "```")
	return code
}

// The recipes for pages work with the real packages. `npm install` in the folder node installs
// them.
func TestNodeRecipes(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("node/node_modules/jsdom"); err != nil {
		t.Skip("the clients are not installed: run npm install in internal/interop/node")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, "node/recipes.mjs", nodeServer(t, recipeRoutes).URL, clientsPage).CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	require.Equal(t, 11, strings.Count("\n"+string(out), "\nok - "), "recipes that work")
}

// command runs a client until the test ends, and returns its lines.
func command(t *testing.T, name string, args ...string) (lines *bufio.Scanner, command *exec.Cmd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	command = exec.CommandContext(ctx, name, args...)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // killed
	})
	return bufio.NewScanner(out), command
}

func post(t *testing.T, url, text string) {
	t.Helper()
	response, err := http.Post(url, "text/plain", strings.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// The recipe in Python resumes after a cut, with Debian's package.
func TestPythonRecipe(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, which has Debian's packages
	if exec.Command(python, "-c", "import websockets").Run() != nil {
		t.Skip("python3-websockets is not installed")
	}
	script := filepath.Join(t.TempDir(), "follow.py")
	require.NoError(t, os.WriteFile(script, []byte(snippet(t, "Python websockets", "python", 0)), 0o600))
	server := nodeServer(t)
	lines, _ := command(t, python, script, strings.Replace(server.URL, "http", "ws", 1)+"/ws?topic=a")
	next := func(want string) {
		t.Helper()
		require.True(t, lines.Scan(), "before %s: %v", want, lines.Err())
		require.Equal(t, want, lines.Text())
	}
	// It has begun once it gets something.
	began := make(chan bool)
	go func() {
		defer close(began)
		lines.Scan()
	}()
	for i := 0; ; i++ {
		post(t, server.URL+"/publish?topic=a", "begin")
		select {
		case <-began:
		case <-time.After(50 * time.Millisecond):
			continue
		}
		break
	}
	require.Equal(t, "begin", lines.Text())
	post(t, server.URL+"/publish?topic=a", "one")
	for lines.Text() != "one" {
		require.True(t, lines.Scan())
	}
	post(t, server.URL+"/cut", "")
	post(t, server.URL+"/publish?topic=a", "two")
	post(t, server.URL+"/publish?topic=a", "three")
	next("two")
	next("three")
}

// The commands for a shell resume after an ID, and show messages as they come.
func TestShellRecipes(t *testing.T) {
	for i, program := range []string{"curl", "http"} {
		t.Run(program, func(t *testing.T) {
			if _, err := exec.LookPath(program); err != nil {
				t.Skipf("%s is not installed", program)
			}
			var hub *broadcast.Hub
			server := nodeServer(t, func(h *broadcast.Hub, _ func(string, http.Handler)) { hub = h })
			id, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: []byte("seen")})
			require.NoError(t, err)
			post(t, server.URL+"/publish?topic=a", "missed")
			t.Setenv("URL", server.URL+"/events?topic=a")
			t.Setenv("ID", id.String())
			lines, _ := command(t, "sh", "-c", "exec "+snippet(t, "curl and httpie", "sh", i))
			next := func(want string) {
				for lines.Scan() {
					if strings.HasPrefix(lines.Text(), "data:") {
						require.Equal(t, "data: "+want, lines.Text())
						return
					}
				}
				require.Fail(t, "it ended before "+want)
			}
			next("missed")
			post(t, server.URL+"/publish?topic=a", "live")
			next("live")
		})
	}
}
