package broadcast_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

var errAway = errors.New("the engine is away")

// server is a Hub on its own node of a journal. It lives in a bubble, where Run follows at
// once: after synctest.Wait every server has what was published.
type server struct {
	t *testing.T
	*broadcast.Hub
	node   *broadcasttest.Journal
	log    records
	cancel context.CancelCauseFunc
	ended  chan error
}

// newServer starts a server on an engine. If wrap is not nil, its result is the Hub's
// Journal instead of the node.
func newServer(t *testing.T, engine *broadcasttest.Journal, wrap func(broadcast.Journal) broadcast.Journal) *server {
	s := newStoppedServer(t, engine, wrap)
	s.start()
	synctest.Wait()
	return s
}

// newStoppedServer returns a server whose Run has not been started.
func newStoppedServer(t *testing.T, engine *broadcasttest.Journal, wrap func(broadcast.Journal) broadcast.Journal) *server {
	s := &server{t: t, node: engine.Node()}
	s.Hub = &broadcast.Hub{Keep: 16, Journal: s.node, Logger: slog.New(slog.NewTextHandler(&s.log, nil))}
	if wrap != nil {
		s.Journal = wrap(s.node)
	}
	t.Cleanup(func() {
		s.Close()
		if s.ended != nil {
			s.stop(nil)
		}
	})
	return s
}

func (s *server) start() {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.cancel, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- s.Run(ctx) }()
}

// stop ends Run and returns its error.
func (s *server) stop(cause error) error {
	s.cancel(cause)
	err := <-s.ended
	s.ended = nil
	return err
}

// publish publishes texts on a topic, and returns the last ID.
func (s *server) publish(topic string, texts ...string) (last broadcast.ID) {
	s.t.Helper()
	for _, text := range texts {
		id, err := s.Publish(s.t.Context(), broadcast.Message{Topic: topic, Data: []byte(text)})
		require.NoError(s.t, err)
		last = id
	}
	return last
}

// position is the Hub's Position.
func (s *server) position() broadcast.ID {
	s.t.Helper()
	id, err := s.Position(s.t.Context())
	require.NoError(s.t, err)
	require.False(s.t, id.IsZero())
	return id
}

// records are the lines of a log.
type records struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *records) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.Write(line)
}

// with returns the lines that contain a text.
func (r *records) with(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for line := range strings.Lines(r.all.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// reader is a subscription whose messages are their texts.
type reader struct {
	t     *testing.T
	sub   broadcast.Subscription
	calls atomic.Int64 // of Notify
}

func (s *server) subscribe(opts broadcast.SubscribeOptions) *reader {
	s.t.Helper()
	r := &reader{t: s.t}
	opts.Notify = func() { r.calls.Add(1) }
	sub, err := s.Subscribe(s.t.Context(), opts)
	require.NoError(s.t, err)
	r.sub = sub
	s.t.Cleanup(func() { sub.Close() })
	return r
}

func (s *server) resume(after broadcast.ID, topics ...string) *reader {
	s.t.Helper()
	return s.subscribe(broadcast.SubscribeOptions{Topics: topics, After: after})
}

// poll polls until nothing is left. It returns the texts, "gap" for a GapError, and "end"
// for ErrClosed.
func (r *reader) poll() []string {
	r.t.Helper()
	synctest.Wait()
	got := []string{}
	buf := make([]*broadcast.Message, 5)
	for {
		before := r.sub.Position()
		n, err := r.sub.Poll(buf)
		after := r.sub.Position()
		switch {
		case errors.Is(err, broadcast.ErrClosed):
			return append(got, "end")
		case err != nil:
			var gap *broadcast.GapError
			require.ErrorAs(r.t, err, &gap)
			got = append(got, "gap")
			if n == 0 {
				require.Equal(r.t, gap.ID, after, "GapError.ID where nothing follows, and Position")
			} else {
				require.Equal(r.t, broadcast.MakeID(buf[0].ID.Epoch(), buf[0].ID.Seq()-1), gap.ID, "GapError.ID and what follows")
			}
		case before.Epoch() == after.Epoch():
			require.GreaterOrEqual(r.t, after.Seq(), before.Seq(), "Position and where it was")
		}
		for _, m := range buf[:n] {
			got = append(got, string(m.Data))
			require.LessOrEqual(r.t, m.ID.Seq(), after.Seq(), "a message and Position")
		}
		if n == 0 && err == nil {
			return got
		}
	}
}

// gets checks all that the subscription has by now.
func (r *reader) gets(want ...string) {
	r.t.Helper()
	require.Equal(r.t, append([]string{}, want...), r.poll())
}

// wakes checks that Notify has been called since the last time, and then as gets.
func (r *reader) wakes(want ...string) {
	r.t.Helper()
	synctest.Wait()
	require.NotZero(r.t, r.calls.Swap(0), "calls of Notify")
	r.gets(want...)
}

func other(id broadcast.ID) broadcast.ID { return broadcast.MakeID(id.Epoch()^1<<40, id.Seq()) }

// tailLog records where the Tails of a journal begin. It may intercept all but the first.
type tailLog struct {
	mu        sync.Mutex
	after     []broadcast.ID
	intercept func(broadcast.Message) error // before an entry is yielded
	running   int
	most      int // of those that run at once
}

func (l *tailLog) wrap(j broadcast.Journal) broadcast.Journal { return &loggedJournal{j, l} }

func (l *tailLog) all() []broadcast.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.after)
}

type loggedJournal struct {
	broadcast.Journal
	log *tailLog
}

func (j *loggedJournal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	l := j.log
	l.mu.Lock()
	l.after = append(l.after, after)
	first := len(l.after) == 1
	l.mu.Unlock()
	return func(yield func(broadcast.Message, error) bool) {
		l.mu.Lock()
		l.running++
		l.most = max(l.most, l.running)
		intercept := l.intercept
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			l.running--
			l.mu.Unlock()
		}()
		for m, err := range j.Journal.Tail(ctx, after) {
			if intercept != nil && !first {
				if err := intercept(m); err != nil {
					yield(broadcast.Message{}, err)
					return
				}
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

func texts(prefix string, from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}
