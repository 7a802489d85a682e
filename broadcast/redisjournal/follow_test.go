package redisjournal_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// add appends messages of these texts with one Append.
func add(t *testing.T, j broadcast.Journal, texts ...string) []broadcast.ID {
	t.Helper()
	ms := make([]broadcast.Message, len(texts))
	for i, text := range texts {
		ms[i] = broadcast.Message{Topic: "t", Data: []byte(text)}
	}
	ids, err := j.Append(t.Context(), ms...)
	require.NoError(t, err)
	require.Len(t, ids, len(ms))
	return ids
}

func many(prefix string, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(prefix, i)
	}
	return texts
}

// tailing is a running Tail.
type tailing struct {
	t      *testing.T
	cancel context.CancelFunc
	next   func() (broadcast.Message, error, bool)
}

func follow(t *testing.T, j broadcast.Journal, after broadcast.ID) *tailing {
	ctx, cancel := context.WithCancel(context.Background())
	next, stop := iter.Pull2(j.Tail(ctx, after))
	t.Cleanup(func() {
		cancel()
		stop()
	})
	return &tailing{t: t, cancel: cancel, next: next}
}

func (f *tailing) pull() (broadcast.Message, error) {
	f.t.Helper()
	timer := time.AfterFunc(patience, f.cancel)
	defer timer.Stop()
	m, err, ok := f.next()
	require.True(f.t, ok, "the Tail has ended")
	return m, err
}

// yields checks that these messages come next, under rising sequences.
func (f *tailing) yields(ids []broadcast.ID, texts ...string) {
	f.t.Helper()
	for i, text := range texts {
		m, err := f.pull()
		require.NoError(f.t, err, "in place of %q", text)
		require.Equal(f.t, text, string(m.Data))
		require.Equal(f.t, ids[i], m.ID, "the ID of %q", text)
	}
}

// gap checks that a gap comes next, and returns where it goes on.
func (f *tailing) gap() broadcast.ID {
	f.t.Helper()
	m, err := f.pull()
	gap := new(broadcast.GapError)
	require.ErrorAs(f.t, err, &gap, "the message %q", m.Data)
	require.Equal(f.t, m.ID, gap.ID)
	return m.ID
}

// nothing checks that an entry comes next that is no message, and returns its ID.
func (f *tailing) nothing() broadcast.ID {
	f.t.Helper()
	m, err := f.pull()
	require.NoError(f.t, err)
	require.Equal(f.t, broadcast.Message{ID: m.ID}, m)
	return m.ID
}

// fails checks that the Tail ends with an error, which it returns.
func (f *tailing) fails() error {
	f.t.Helper()
	_, err := f.pull()
	require.Error(f.t, err)
	require.NotErrorIs(f.t, err, broadcast.ErrGap)
	_, _, ok := f.next()
	require.False(f.t, ok, "the Tail goes on behind %v", err)
	return err
}
