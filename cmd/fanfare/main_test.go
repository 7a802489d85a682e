package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait for what does not come
		panic(err)
	}
	leak.Main(m)
}

var silent = slog.New(slog.DiscardHandler)

const patience = 15 * time.Second

// output is what a command has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// serve serves a Hub on both transports, with heartbeats each fifth of a second.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) (*broadcast.Hub, *httptest.Server) {
	t.Helper()
	hub := &broadcast.Hub{Logger: silent}
	const quick = 200 * time.Millisecond
	grant := func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Last: 5}, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", &sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent, Options: sse.Options{Heartbeat: quick, Retry: time.Millisecond}})
	mux.Handle("GET /ws", &ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent, Options: ws.Options{PingInterval: quick}})
	var h http.Handler = mux
	if wrap != nil {
		h = wrap(mux)
	}
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		hub.Close()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return hub, server
}

func publish(t *testing.T, hub *broadcast.Hub, data string) broadcast.ID {
	t.Helper()
	id, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: "note", Data: []byte(data)})
	require.NoError(t, err)
	return id
}

// socket returns a server's URL with the scheme of a WebSocket.
func socket(server *httptest.Server) string {
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
}

func TestTailPrintsMessagesOfBothTransports(t *testing.T) {
	hub, server := serve(t, nil)
	from := publish(t, hub, "seen")
	missed := publish(t, hub, "one\ntwo")
	for url, want := range map[string]string{
		server.URL + "/events": missed.String() + "  note  one\n    two\n",
		socket(server):         missed.String() + "  a  note  one\n    two\n",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs output
		code := make(chan int, 1)
		go func() { code <- run(ctx, []string{"tail", "-from", from.String(), url}, &out, &errs) }()
		require.Eventually(t, func() bool { return out.String() == want }, patience, 5*time.Millisecond, "%s: %s%s", url, &out, &errs)
		cancel()
		assert.Equal(t, good, <-code)
		assert.Empty(t, errs.String())
	}
}

// With -last, of what the stream begins with the newest messages are printed, and then all.
func TestTailLast(t *testing.T) {
	hub, server := serve(t, nil)
	for i := range 5 {
		publish(t, hub, fmt.Sprint("old ", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs output
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"tail", "-last", "2", "-json", server.URL + "/events"}, &out, &errs) }()
	require.Eventually(t, func() bool { return strings.Count(out.String(), "\n") == 2 }, patience, 5*time.Millisecond)
	publish(t, hub, "new")
	require.Eventually(t, func() bool { return strings.Count(out.String(), "\n") == 3 }, patience, 5*time.Millisecond)
	var data []string
	for line := range strings.Lines(out.String()) {
		data = append(data, line[strings.Index(line, `"data"`):])
	}
	assert.Equal(t, []string{"\"data\":\"old 3\"}\n", "\"data\":\"old 4\"}\n", "\"data\":\"new\"}\n"}, data)
	cancel()
	assert.Equal(t, good, <-code)
}

func TestTailEndsWithItsStream(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer right":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var out, errs output
	assert.Equal(t, good, run(t.Context(), []string{"tail", "-H", "Authorization: Bearer right", server.URL}, &out, &errs))
	assert.Equal(t, failed, run(t.Context(), []string{"tail", server.URL}, &out, &errs))
	assert.Contains(t, errs.String(), "401")
}

func TestWrongCommandLines(t *testing.T) {
	for _, args := range [][]string{nil, {"unknown"}, {"tail"}, {"check", "example.com"}, {"tail", "ftp://x"}, {"tail", "http:///x"}, {"tail", "-H", "x", "http://x"}, {"tail", "-from", "x", "ws://x"}, {"check", "-unknown", "http://x"}} {
		var out, errs output
		assert.Equal(t, misuse, run(t.Context(), args, &out, &errs), args)
		assert.NotEmpty(t, errs.String(), args)
		assert.Empty(t, out.String(), args)
	}
	var out, errs output
	assert.Equal(t, good, run(t.Context(), []string{"help"}, &out, &errs))
	assert.Contains(t, out.String(), "usage")
}

// The help of a command begins with how it is called, and explains each flag of that line.
func TestHelpOfACommand(t *testing.T) {
	for command, flags := range map[string][]string{"tail": {"-last", "-from", "-json", "-H"}, "check": {"-wait", "-origin", "-H"}} {
		var out, errs output
		assert.Equal(t, good, run(t.Context(), []string{command, "-h"}, &out, &errs))
		line, rest, _ := strings.Cut(errs.String(), "\n")
		assert.Regexp(t, "^usage: fanfare "+command+" .* URL$", line)
		for _, flag := range flags {
			assert.Contains(t, line, "["+flag)
			assert.Regexp(t, "(?m)^  "+flag+"\\b", rest)
		}
		assert.Empty(t, out.String())
	}
}

// A stream of this kit has no fault, on either transport.
func TestCheckFindsNoFault(t *testing.T) {
	t.Parallel()
	_, server := serve(t, nil)
	for _, url := range []string{server.URL + "/events", socket(server)} {
		var out, errs output
		assert.Equal(t, good, run(t.Context(), []string{"check", "-wait", "10s", url}, &out, &errs), "%s%s", &out, &errs)
		assert.Equal(t, 2, strings.Count(out.String(), "heartbeat")+strings.Count(out.String(), "resume"), out.String())
		assert.Contains(t, out.String(), "no fault found")
	}
}

// Each fault is found, and is the only one.
func TestCheckFindsFaults(t *testing.T) {
	t.Parallel()
	held := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}
	begin := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = fmt.Fprint(w, text)
		_ = http.NewResponseController(w).Flush()
	}
	stream := func(text string, every time.Duration) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begin(w, text)
				for {
					select {
					case <-r.Context().Done():
						return
					case <-time.After(every):
						_, _ = fmt.Fprint(w, ":\n")
						_ = http.NewResponseController(w).Flush()
					}
				}
			})
		}
	}
	for _, test := range []struct {
		name, path, want string
		wrap             func(http.Handler) http.Handler
	}{
		{"a proxy that holds the response back", "/events", "buffering", held},
		{"compression that does not flush", "/events", "buffering", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				w.Header().Set("Content-Type", "text/event-stream")
				w.Header().Set("Cache-Control", "no-store")
				packed := gzip.NewWriter(w)
				_ = packed.Flush()
				_, _ = fmt.Fprint(packed, "id: 1\n\n") // and no Flush of that
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
		}},
		{"no heartbeat", "/events", "heartbeat", stream("id: 1\n\n", time.Hour)},
		{"no IDs", "/events", "resume", stream("data: x\n\n", 100*time.Millisecond)},
		{"a type that is none of a stream", "/events", "type", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>") })
		}},
		{"a refusal", "/events", "status", func(http.Handler) http.Handler { return http.NotFoundHandler() }},
		{"pages of any site, with cookies", "/events", "origin", func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if origin := r.Header.Get("Origin"); origin != "" {
					w.Header().Set("Access-Control-Allow-Origin", origin)
					w.Header().Set("Access-Control-Allow-Credentials", "true")
				}
				next.ServeHTTP(w, r)
			})
		}},
		{"a WebSocket for pages of any site", "/ws", "origin", func(next http.Handler) http.Handler {
			return (&middleware.Origins{Allow: []string{foreignOrigin}, Logger: silent}).Handler(next)
		}},
		{"a proxy that hides the public host", "/ws", "origin", func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Host = "upstream"
				next.ServeHTTP(w, r)
			})
		}},
		{"no WebSocket", "/ws", "handshake", func(http.Handler) http.Handler { return http.NotFoundHandler() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, server := serve(t, test.wrap)
			url := server.URL + test.path
			if test.path == "/ws" {
				url = socket(server)
			}
			var out, errs output
			assert.Equal(t, failed, run(t.Context(), []string{"check", "-wait", "2s", url}, &out, &errs), "%s%s", &out, &errs)
			assert.Contains(t, out.String(), "FAULT  "+test.want, "%s", &out)
			assert.Empty(t, errs.String())
		})
	}
}

// begin begins an event stream by hand.
func begin(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprint(w, text)
	_ = http.NewResponseController(w).Flush()
}

// What can be known at once is printed before a heartbeat is waited for.
func TestCheckDoesNotWaitForAHeartbeatFirst(t *testing.T) {
	t.Parallel()
	_, server := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin(w, "id: 1\n\n")
			<-r.Context().Done()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs output
	ended := make(chan int)
	go func() { ended <- run(ctx, []string{"check", "-wait", "1h", server.URL}, &out, &errs) }()
	assert.Eventually(t, func() bool {
		return strings.Contains(out.String(), "ok     resume") && strings.Contains(out.String(), "ok     origin")
	}, patience, 10*time.Millisecond)
	assert.Eventually(t, func() bool {
		return strings.Contains(errs.String(), "fanfare: waiting for a heartbeat, up to 1h0m0s\n")
	}, patience, 10*time.Millisecond)
	cancel()
	assert.Equal(t, failed, <-ended)
	assert.NotContains(t, out.String(), "heartbeat", "it was interrupted, and nothing is known")
}

// A heartbeat counts that comes while something else is checked.
func TestCheckSeesAHeartbeatMeanwhile(t *testing.T) {
	t.Parallel()
	due, sent, once := make(chan struct{}), make(chan struct{}), sync.Once{}
	_, server := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Origin") != "" { // the last check before that of the heartbeat
				once.Do(func() { close(due) })
				<-sent
				if r.URL.Path != "/......" { // a detour, during which the heartbeat is read
					http.Redirect(w, r, r.URL.Path+".", http.StatusFound)
					return
				}
			}
			begin(w, "id: 1\n\n")
			if r.Header.Get("Origin") == "" && r.Header.Get("Last-Event-ID") == "" {
				<-due
				_, _ = fmt.Fprint(w, ":\n")
				_ = http.NewResponseController(w).Flush()
				close(sent)
			}
			<-r.Context().Done()
		})
	})
	var out, errs output
	assert.Equal(t, good, run(t.Context(), []string{"check", "-wait", "3s", server.URL}, &out, &errs), &out)
	assert.Contains(t, out.String(), "ok     heartbeat")
}

// A stream that yields nothing is one fault: no heartbeat is waited for as well.
func TestCheckWaitsOnceForAStreamThatYieldsNothing(t *testing.T) {
	t.Parallel()
	_, server := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin(w, "")
			<-r.Context().Done()
		})
	})
	var out, errs output
	assert.Equal(t, failed, run(t.Context(), []string{"check", "-wait", "100ms", server.URL}, &out, &errs))
	assert.Contains(t, out.String(), "FAULT  buffering   nothing came in 100ms")
	assert.Contains(t, out.String(), "ok     origin")
	assert.Contains(t, out.String(), "1 fault found")
}

// What a spent ticket hides is not checked, which is no fault, on either transport. A ticket that
// lets in nobody at all is one.
func TestCheckWithATicket(t *testing.T) {
	t.Parallel()
	tickets := &middleware.Tickets{Logger: silent}
	_, server := serve(t, tickets.Handler)
	issue := func() string {
		w := httptest.NewRecorder()
		tickets.Issue(func(*http.Request) (string, error) { return "ann", nil }).ServeHTTP(w, httptest.NewRequest("POST", "/ticket", nil))
		var issued struct{ Ticket string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &issued))
		return issued.Ticket
	}
	check := func(args ...string) (int, string) {
		var out, errs output
		code := run(t.Context(), append([]string{"check", "-wait", "10s"}, args...), &out, &errs)
		assert.Empty(t, errs.String())
		return code, out.String()
	}
	for name, with := range map[string]func(ticket string) []string{
		"an event stream":             func(ticket string) []string { return []string{server.URL + "/events?ticket=" + ticket} },
		"a WebSocket":                 func(ticket string) []string { return []string{socket(server) + "?ticket=" + ticket} },
		"a WebSocket that learns why": func(ticket string) []string { return []string{socket(server) + "?refusals=close&ticket=" + ticket} },
		"a WebSocket with a ticket in its header": func(ticket string) []string {
			return []string{"-H", "Sec-WebSocket-Protocol: chat.v1, ticket." + ticket, socket(server)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := with(issue())
			code, out := check(args...)
			assert.Equal(t, good, code, out)
			assert.Contains(t, out, "note   resume      not checked: a ticket is good for one stream")
			assert.Contains(t, out, "note   origin      not checked: a ticket is good for one stream")
			code, out = check(args...)
			assert.Equal(t, failed, code, out)
			assert.Contains(t, out, "1 fault found")
			assert.Contains(t, out, "the ticket was used already, or has expired")
		})
	}
}

// Pages of any site, and a site's own refusal of other pages, are found also with a ticket.
func TestCheckOfOriginsWithATicket(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		origins    func(http.Handler) http.Handler
	}{
		{"pages of any site", "FAULT  origin ", func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
				w.Header().Set("Access-Control-Allow-Credentials", "true")
				next.ServeHTTP(w, r)
			})
		}},
		{"pages of the site alone", "ok     origin ", (&middleware.Origins{Logger: silent}).Handler},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, server := serve(t, func(next http.Handler) http.Handler { return test.origins(once(next)) })
			var out, errs output
			run(t.Context(), []string{"check", "-wait", "10s", server.URL + "/events?ticket=x"}, &out, &errs)
			assert.Contains(t, out.String(), test.want)
		})
	}
}

// A resume that is refused is a fault where no ticket explains it.
func TestCheckFindsARefusedResume(t *testing.T) {
	t.Parallel()
	_, server := serve(t, once)
	for _, url := range []string{server.URL + "/events", socket(server)} {
		var out, errs output
		assert.Equal(t, failed, run(t.Context(), []string{"check", "-wait", "10s", url}, &out, &errs))
		assert.Contains(t, out.String(), "FAULT  resume", "%s", &out)
	}
}

// once lets one request of each path pass.
func once(next http.Handler) http.Handler {
	var seen sync.Map
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, again := seen.LoadOrStore(r.URL.Path, true); again {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A resume that lands on another log is found, as behind a balancer of servers without a journal.
func TestCheckFindsServersWithoutASharedLog(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	requests := 0
	_, other := serve(t, nil)
	for _, path := range []string{"/events", "/ws"} {
		_, server := serve(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				requests++
				second := requests%2 == 0
				mu.Unlock()
				if second {
					other.Config.Handler.ServeHTTP(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
		})
		url := server.URL + path
		if path == "/ws" {
			url = socket(server)
		}
		mu.Lock()
		requests = 0
		mu.Unlock()
		var out, errs output
		assert.Equal(t, failed, run(t.Context(), []string{"check", "-wait", "5s", url}, &out, &errs))
		assert.Contains(t, out.String(), "another log", "%s", &out)
	}
}
