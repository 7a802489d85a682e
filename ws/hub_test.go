package ws_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

var silent = slog.New(slog.DiscardHandler)

// say publishes text on a topic and returns its ID.
func say(t *testing.T, hub *broadcast.Hub, topic, data string) string {
	t.Helper()
	id, err := hub.Publish(context.Background(), broadcast.Message{Topic: topic, Data: []byte(data)})
	require.NoError(t, err)
	return id.String()
}

// position returns the position of the Hub.
func position(t *testing.T, hub *broadcast.Hub) string {
	t.Helper()
	id, err := hub.Position(context.Background())
	require.NoError(t, err)
	return id.String()
}

// message returns the envelope of a message.
func message(id, topic, data string) string {
	return fmt.Sprintf(`{"id":%q,"topic":%q,"data":%q}`, id, topic, data)
}

// ready returns the notice with which a stream of the default Options begins.
func ready(at string) string { return fmt.Sprintf(`{"ready":%q,"heartbeat":30}`, at) }

// before returns the ID before another.
func before(t *testing.T, id string) string {
	t.Helper()
	parsed, err := broadcast.ParseID(id)
	require.NoError(t, err)
	return broadcast.MakeID(parsed.Epoch(), parsed.Seq()-1).String()
}

// logbook stores what is logged.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// events returns how many events the lines stand for that contain s, once all have been
// logged. The caller is in a bubble.
func (l *logbook) events(s string) (n int) {
	time.Sleep(time.Second) // in which further ones are counted
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if !strings.Contains(line, s) {
			continue
		}
		count := 1
		if _, last, ok := strings.Cut(line, " count="); ok {
			_, _ = fmt.Sscan(last, &count)
		}
		n += count
	}
	return n
}

// count returns how often s was logged.
func (l *logbook) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}
