package ratelog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// lines is a log in JSON.
type lines struct {
	mu  sync.Mutex
	all []map[string]any
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var line map[string]any
	if err := json.Unmarshal(bytes.TrimSpace(b), &line); err != nil {
		return 0, err
	}
	l.all = append(l.all, line)
	return len(b), nil
}

// take returns what was written since the last call.
func (l *lines) take() []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// Of each kind the first event of a second is written at once, and the last one at its end,
// with how many it stands for. None is missing in the sum.
func TestTwoRecordsPerSecondAndKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log ratelog.Log
		var out lines
		refused := ratelog.Kind{Level: slog.LevelInfo, Message: "refused", Status: 403}
		for i := range 1000 {
			log.Write(t.Context(), out.logger(), refused, "n", i)
		}
		log.Write(t.Context(), out.logger(), ratelog.Kind{Level: slog.LevelInfo, Message: "refused", Status: 404}, "n", 1)
		got := out.take()
		require.Len(t, got, 2)
		require.EqualValues(t, 0, got[0]["n"])
		require.NotContains(t, got[0], "count")
		require.EqualValues(t, 1, got[1]["n"], "another kind")

		time.Sleep(time.Second)
		synctest.Wait()
		got = out.take()
		require.Len(t, got, 1)
		require.EqualValues(t, 999, got[0]["n"])
		require.EqualValues(t, 999, got[0]["count"])

		total, written := 0, 0
		for i := range 10_000 {
			log.Write(t.Context(), out.logger(), refused, "n", i)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, line := range out.take() {
			written++
			if n, ok := line["count"].(float64); ok {
				total += int(n)
			} else {
				total++
			}
		}
		require.Equal(t, 10_000, total, "nothing is lost")
		require.LessOrEqual(t, written, 22)
	})
}

// Events that are rare are all written at once, without a count.
func TestRareEventsAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log ratelog.Log
		var out lines
		for i := range 5 {
			log.Write(t.Context(), out.logger(), ratelog.Kind{Message: "refused"}, "n", i)
			require.Len(t, out.take(), 1)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		require.Empty(t, out.take())
	})
}

// The logger is called without a lock: it may cause an event of the same kind, and a panic in
// it does not end the process.
func TestALoggerMayCauseEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log ratelog.Log
		var out lines
		kind := ratelog.Kind{Level: slog.LevelInfo, Message: "refused"}
		var h hooked
		h.Handler = out.logger().Handler()
		h.hook = func() { log.Write(context.Background(), slog.New(h), kind) }
		log.Write(t.Context(), slog.New(h), kind)
		require.Len(t, out.take(), 1)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, out.take(), 2, "the count, which has caused another event")

		h.hook = func() { panic("in the Logger") }
		log.Write(t.Context(), out.logger(), kind)
		log.Write(t.Context(), slog.New(h), kind)
		time.Sleep(2 * time.Second)
	})
}

// hooked is a slog.Handler that calls hook before each record.
type hooked struct {
	slog.Handler
	hook func()
}

func (h hooked) Handle(ctx context.Context, r slog.Record) error {
	h.hook()
	return h.Handler.Handle(ctx, r)
}

// Values are cut to about 100 bytes, between runes, and errors to a few sentences. An error
// that is cut still wraps what it was.
func TestValuesAreCut(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("x", 1<<20), strings.Repeat("ä", 1000), "x" + strings.Repeat("ä", 1000), "xy" + strings.Repeat("€", 1000),
		strings.Repeat("🙂", 100), "x" + strings.Repeat("🙂", 100), "xy" + strings.Repeat("🙂", 100), "xyz" + strings.Repeat("🙂", 100),
	} {
		cut := ratelog.Cut(text)
		require.LessOrEqual(t, len(cut), 100+len("…"))
		require.GreaterOrEqual(t, len(cut), 97)
		require.True(t, utf8.ValidString(cut))
		require.True(t, strings.HasPrefix(text, strings.TrimSuffix(cut, "…")))
	}
	require.LessOrEqual(t, len(ratelog.Cut(strings.Repeat("\x80", 1000))), 103, "not UTF-8 at all")
	require.Equal(t, strings.Repeat("x", 100), ratelog.Cut(strings.Repeat("x", 100)))

	var log ratelog.Log
	var out lines
	why := errors.New("no such room")
	long := fmt.Errorf("%w: %s", why, strings.Repeat("ä", 1<<20))
	log.Write(t.Context(), out.logger(), ratelog.Kind{Message: "a"}, "path", strings.Repeat("/", 1<<20), "reason", long, "id", 1, "short", why)
	log.Write(t.Context(), out.logger(), ratelog.Kind{Level: slog.LevelError, Message: "b"}, "error", long)
	log.Write(t.Context(), out.logger(), ratelog.Kind{Level: slog.LevelError, Message: "c"}, "error",
		fmt.Errorf("above: %w", guard.Call("Handler.Grant", func() error { return deep(1000, strings.Repeat("p", 1<<20)) })))
	got := out.take()
	require.Len(t, got[0]["path"], 103)
	require.LessOrEqual(t, len(got[0]["reason"].(string)), 303)
	require.Equal(t, "no such room", got[0]["short"])
	require.LessOrEqual(t, len(got[1]["error"].(string)), 1027)
	stack := got[2]["error"].(string)
	require.LessOrEqual(t, len(stack), 13<<10)
	require.Contains(t, stack, "panic in Handler.Grant: ppp")
	require.Contains(t, stack, "ratelog_test.deep", "the stack is left")
	require.ErrorIs(t, ratelog.Short(slog.LevelInfo, long), why)
	require.Equal(t, why, ratelog.Short(slog.LevelInfo, why))
}

// deep panics at the end of a long stack.
func deep(n int, text string) error {
	if n == 0 {
		panic(text)
	}
	return deep(n-1, text)
}
