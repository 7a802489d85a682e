package abuse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// lengths is a log that keeps its lines.
type lengths struct {
	mu    sync.Mutex
	lines []map[string]any
	most  int // bytes of a line
}

func (l *lengths) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := map[string]any{}
	if err := json.Unmarshal(bytes.TrimSpace(b), &line); err != nil {
		return 0, err
	}
	l.lines, l.most = append(l.lines, line), max(l.most, len(b))
	return len(b), nil
}

// A client that is refused again and again with long values of its own choice gets at most
// two lines per second into the log, none of them long. The lines say how many there were.
func TestRefusalsCannotFillTheLog(t *testing.T) {
	huge := strings.Repeat("ä", 10<<10)
	var hub broadcast.Hub
	for _, test := range []struct {
		name    string
		handler func(*slog.Logger) http.Handler
		change  func(*http.Request)
		most    int // bytes of a line
	}{
		{"the method", func(l *slog.Logger) http.Handler {
			return &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: l}
		}, func(r *http.Request) { r.Method = huge }, 1000},
		{"no handshake", func(l *slog.Logger) http.Handler {
			return &ws.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: l}
		}, func(r *http.Request) { r.Header.Set("Sec-Websocket-Version", huge) }, 1000},
		{"the origin of a handshake", func(l *slog.Logger) http.Handler {
			return &ws.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: l}
		}, func(r *http.Request) {
			r.Host = huge
			for name, value := range map[string]string{"Origin": "https://" + strings.Repeat("x", 10<<10), "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				r.Header.Set(name, value)
			}
		}, 1000},
		{"a Refusal of Grant", func(l *slog.Logger) http.Handler {
			return &sse.Handler{Broadcaster: &hub, Logger: l, Grant: func(r *http.Request) (*fanfare.Grant, error) {
				return nil, &fanfare.Refusal{Status: 404, Err: fmt.Errorf("no such room: %s", r.URL.Path)}
			}}
		}, nil, 1000},
		{"an error of Grant", func(l *slog.Logger) http.Handler {
			return &sse.Handler{Broadcaster: &hub, Logger: l, Grant: func(r *http.Request) (*fanfare.Grant, error) {
				return nil, fmt.Errorf("no such room: %s", r.URL.Path)
			}}
		}, nil, 2000},
		{"a panic of Grant", func(l *slog.Logger) http.Handler {
			return &ws.Handler{Broadcaster: &hub, Logger: l, Grant: func(r *http.Request) (*fanfare.Grant, error) { panic(r.URL.Path) }}
		}, func(r *http.Request) {
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				r.Header.Set(name, value)
			}
		}, 14 << 10},
		{"a topic that is invalid", func(l *slog.Logger) http.Handler {
			return &sse.Handler{Broadcaster: &hub, Logger: l, Grant: func(r *http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{r.URL.Path}}, nil
			}}
		}, nil, 3000},
		{"a full Limit", func(l *slog.Logger) http.Handler {
			limit := &middleware.Limit{PerKey: 1, Key: func(r *http.Request) string { return r.URL.Path }, Logger: l}
			return limit.Handler(limit.Handler(http.NotFoundHandler()))
		}, nil, 1000},
		{"Origins", func(l *slog.Logger) http.Handler {
			return (&middleware.Origins{Logger: l}).Handler(http.NotFoundHandler())
		}, func(r *http.Request) { r.Header.Set("Origin", huge) }, 1000},
		{"Token", func(l *slog.Logger) http.Handler {
			return (&middleware.Token{Query: "token", Logger: l}).Handler(http.NotFoundHandler())
		}, func(r *http.Request) {
			r.URL.RawQuery = "token=" + url.QueryEscape(huge)
			r.Header.Set("Accept", "text/event-stream")
		}, 1000},
		{"Drain", func(l *slog.Logger) http.Handler {
			drain := &middleware.Drain{Logger: l}
			_ = drain.Shutdown(context.Background())
			return drain.Handler(http.NotFoundHandler())
		}, nil, 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const seconds, requests = 3, 3000
				log := new(lengths)
				h := test.handler(slog.New(slog.NewJSONHandler(log, nil)))
				for range requests {
					r := httptest.NewRequest("GET", "/", nil)
					r.URL.Path = "/" + huge
					if test.change != nil {
						test.change(r)
					}
					h.ServeHTTP(httptest.NewRecorder(), r)
					time.Sleep(seconds * time.Second / requests)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				total := 0
				for _, line := range log.lines {
					count, ok := line["count"].(float64)
					if !ok {
						count = 1
					}
					total += int(count)
					require.LessOrEqual(t, len(line["path"].(string)), 103)
					require.True(t, utf8.ValidString(line["path"].(string)))
					require.NotContains(t, line["path"], "\ufffd", "cut between runes")
				}
				require.Equal(t, requests, total, "no refusal is missing")
				require.LessOrEqual(t, len(log.lines), 2*seconds+2)
				require.LessOrEqual(t, log.most, test.most, "bytes of a line")
			})
		})
	}
}

// Messages that cannot be encoded, and Filters that panic, get at most two lines per second
// of each kind into the log.
func TestDroppedMessagesCannotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 1000
		hub, log := &broadcast.Hub{Keep: 2 * messages}, new(lengths)
		panicking := make(chan struct{})
		h := &sse.Handler{Broadcaster: hub, Detach: false, Logger: slog.New(slog.NewJSONHandler(log, nil)), Grant: func(r *http.Request) (*fanfare.Grant, error) {
			g := &fanfare.Grant{Topics: []string{"a"}}
			if r.URL.Path == "/filtered" {
				g.Filter = func(m *broadcast.Message) bool { panic(string(m.Data)) }
			}
			return g, nil
		}, Encode: func(m *broadcast.Message) (sse.Event, bool) {
			select {
			case <-panicking:
				panic(string(m.Data))
			default:
				return sse.Event{Data: m.Data}, true
			}
		}}
		for _, path := range []string{"/", "/", "/filtered"} {
			go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		}
		synctest.Wait()
		publish := func() {
			for range messages {
				_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: bytes.Repeat([]byte("ä"), 5000)})
				require.NoError(t, err)
				time.Sleep(time.Millisecond)
			}
			time.Sleep(2 * time.Second)
		}
		total := func(message string) (n, lines int) {
			log.mu.Lock()
			defer log.mu.Unlock()
			for _, line := range log.lines {
				if line["msg"] == message {
					count, ok := line["count"].(float64)
					if !ok {
						count = 1
					}
					n, lines = n+int(count), lines+1
				}
			}
			return n, lines
		}
		publish()
		n, lines := total("sse: dropped a message")
		require.Equal(t, messages, n)
		require.LessOrEqual(t, lines, 4)
		close(panicking)
		publish()
		n, lines = total("sse: dropped a message that cannot be encoded")
		require.Equal(t, messages, n, "once for each message")
		require.LessOrEqual(t, lines, 4)
		require.LessOrEqual(t, log.most, 14<<10)
		require.NoError(t, hub.Close())
		synctest.Wait()
	})
}
