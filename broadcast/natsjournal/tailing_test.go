package natsjournal_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// add appends a message for each text, one Append after the other.
func add(t *testing.T, j broadcast.Journal, texts ...string) []broadcast.ID {
	t.Helper()
	var ids []broadcast.ID
	for _, text := range texts {
		id, err := j.Append(within(t), message(text))
		require.NoError(t, err)
		ids = append(ids, id...)
	}
	return ids
}

func message(text string) broadcast.Message {
	return broadcast.Message{Topic: "t", Data: []byte(text)}
}

func numbers(from, to int) []string {
	var texts []string
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint(i))
	}
	return texts
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	t.Cleanup(cancel)
	return ctx
}

// tailing is a running Tail. Its ctx is cancelled if it yields nothing for too long.
type tailing struct {
	t      *testing.T
	cancel context.CancelFunc
	pull   func() (broadcast.Message, error, bool)
	stop   func()
}

func follow(t *testing.T, j broadcast.Journal, after broadcast.ID) *tailing {
	ctx, cancel := context.WithCancel(context.Background())
	pull, stop := iter.Pull2(j.Tail(ctx, after))
	t.Cleanup(stop)
	t.Cleanup(cancel)
	return &tailing{t, cancel, pull, stop}
}

func (f *tailing) next() (broadcast.Message, error) {
	f.t.Helper()
	timer := time.AfterFunc(soon, f.cancel)
	defer timer.Stop()
	m, err, ok := f.pull()
	require.True(f.t, ok, "the Tail ended")
	return m, err
}

// yields checks that the next messages have these texts and, unless ids is nil, these IDs.
func (f *tailing) yields(ids []broadcast.ID, texts ...string) {
	f.t.Helper()
	for i, text := range texts {
		m, err := f.next()
		require.NoError(f.t, err, "before %q", text)
		require.Equal(f.t, text, string(m.Data))
		if ids != nil {
			require.Equal(f.t, ids[i], m.ID)
		}
	}
}

// gap checks that a gap is yielded next, and returns its ID.
func (f *tailing) gap() broadcast.ID {
	f.t.Helper()
	id, _ := f.loss()
	return id
}

// loss checks that a gap is yielded next. It returns its ID and what is said to have survived.
func (f *tailing) loss() (id, survived broadcast.ID) {
	f.t.Helper()
	m, err := f.next()
	require.ErrorIs(f.t, err, broadcast.ErrGap, "instead of %q", m.Data)
	require.Empty(f.t, m.Topic)
	if gap, ok := errors.AsType[*broadcast.GapError](err); ok {
		require.Equal(f.t, m.ID, gap.ID)
		return m.ID, broadcast.ID{}
	}
	epoch, ok := errors.AsType[*broadcast.EpochError](err)
	require.True(f.t, ok, "%v", err)
	return m.ID, epoch.Survived
}
