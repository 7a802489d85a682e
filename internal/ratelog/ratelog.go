// Package ratelog writes log records that clients can cause, in such a way that no
// client can fill the log: at most two records per second for each kind of event, none
// of which is long.
package ratelog

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/guard"
)

// Log bounds the records of one handler or middleware. Of the events of one kind it
// writes the first in each second at once. At the end of the second it writes the last
// one, with the attribute count: how many events that record stands for. The zero Log
// is ready.
//
// The logger is called without a lock, so it may itself cause an event. Its panic goes no
// further: what its caller has to release would not be, and in a goroutine of the kit it
// would end the process.
type Log struct {
	mu    sync.Mutex
	kinds map[Kind]*second
}

// Kind tells events apart. A handler has few of them: a Kind has nothing that a client
// chooses.
type Kind struct {
	Level   slog.Level
	Message string
	Status  int // of a refusal; 0: the event is none
}

// second is the current second of a kind. It begins with the event that is written at
// once.
type second struct {
	began time.Time
	count int // events since then

	// The last of these, for the record at the end.
	logger *slog.Logger
	args   []any
}

// Write writes an event, or counts it. logger is slog.Default() if nil. In args, which
// are those of slog.Logger.Log, text and errors are cut, see [Cut] and [Short].
func (l *Log) Write(ctx context.Context, logger *slog.Logger, kind Kind, args ...any) {
	logger = cmp.Or(logger, slog.Default())
	if !logger.Enabled(ctx, kind.Level) {
		return
	}
	shorten(kind.Level, args)
	if l.begin(logger, kind, args) {
		write(context.WithoutCancel(ctx), logger, kind, args)
	}
}

func write(ctx context.Context, logger *slog.Logger, kind Kind, args []any) {
	_ = guard.Call("Logger", func() error {
		logger.Log(ctx, kind.Level, kind.Message, args...)
		return nil
	})
}

// begin reports whether an event is the first of its second. It counts any other.
func (l *Log) begin(logger *slog.Logger, kind Kind, args []any) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	s := l.kinds[kind]
	switch {
	case s == nil:
		if l.kinds == nil {
			l.kinds = make(map[Kind]*second)
		}
		l.kinds[kind] = &second{began: now}
		return true
	case s.count == 0 && now.Sub(s.began) >= time.Second:
		s.began = now
		return true
	case s.count == 0:
		time.AfterFunc(time.Second-now.Sub(s.began), func() { l.end(kind) })
	}
	s.count++
	s.logger, s.args = logger, args
	return false
}

// end writes the last event of a second, and how many it stands for.
func (l *Log) end(kind Kind) {
	l.mu.Lock()
	s := l.kinds[kind]
	delete(l.kinds, kind)
	l.mu.Unlock()
	write(context.Background(), s.logger, kind, append(s.args[:len(s.args):len(s.args)], "count", s.count))
}
