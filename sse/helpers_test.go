package sse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

var silent = slog.New(slog.DiscardHandler)

// logbook is a log whose lines a test looks up.
type logbook struct {
	mu    sync.Mutex
	lines []map[string]any
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logbook) Write(line []byte) (int, error) {
	var values map[string]any
	if err := json.Unmarshal(bytes.TrimSpace(line), &values); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, values)
	return len(line), nil
}

// with returns the lines whose message contains text.
func (l *logbook) with(text string) (found []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line["msg"].(string), text) {
			found = append(found, line)
		}
	}
	return found
}

// events returns how many events the lines stand for whose message contains text, once all
// have been logged. The caller is in a bubble.
func (l *logbook) events(text string) (n int) {
	time.Sleep(time.Second) // in which further ones are counted
	synctest.Wait()
	for _, line := range l.with(text) {
		count, ok := line["count"].(float64)
		if !ok {
			count = 1
		}
		n += int(count)
	}
	return n
}

// publish publishes a message of type "tick", and returns the text of its ID.
func publish(t testing.TB, b broadcast.Broadcaster, topic, data string) string {
	t.Helper()
	id, err := b.Publish(context.Background(), broadcast.Message{Topic: topic, Type: "tick", Data: []byte(data)})
	require.NoError(t, err)
	return id.String()
}

// tick returns the block of a message that publish has published.
func tick(id, data string) string { return "event: tick\nid: " + id + "\ndata: " + data + "\n\n" }

// before returns the ID that precedes id.
func before(t testing.TB, id string) string {
	t.Helper()
	parsed, err := broadcast.ParseID(id)
	require.NoError(t, err)
	return broadcast.MakeID(parsed.Epoch(), parsed.Seq()-1).String()
}

// position returns the newest position of the hub.
func position(t testing.TB, hub *broadcast.Hub) string {
	t.Helper()
	id, err := hub.Position(context.Background())
	require.NoError(t, err)
	return id.String()
}

// events parses what was sent, as a browser does.
func events(t testing.TB, sent string) (all []sse.Event, lastEventID string) {
	t.Helper()
	r := sse.NewReader(strings.NewReader(sent))
	for e, err := range r.All() {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all, r.LastEventID()
}

func request(method, target string) *http.Request {
	r, err := http.NewRequest(method, target, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// detachable is a handler of topic a that detaches its streams.
func detachable(hub *broadcast.Hub) *sse.Handler {
	return &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: true, Logger: silent}
}

// heap returns the bytes of heap in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// noFlush hides everything but the three methods of a ResponseWriter.
type noFlush struct{ http.ResponseWriter }

// flushOnly hides everything but Flush.
type flushOnly struct{ http.ResponseWriter }

func (w flushOnly) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// unwraps wraps a ResponseWriter as it should, with Unwrap.
type unwraps struct{ http.ResponseWriter }

func (w unwraps) Unwrap() http.ResponseWriter { return w.ResponseWriter }
