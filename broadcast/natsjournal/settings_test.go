package natsjournal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// A field that is impossible, or that differs from the stream, is named by the error of
// every method. The stream stays as it is.
func TestSettings(t *testing.T) {
	tests := []struct {
		name   string
		change func(*natsjournal.Journal)
		want   string
	}{
		{"age", func(j *natsjournal.Journal) { j.MaxAge = time.Hour }, "max_age 24h0m0s, but this node needs 1h0m0s: change the stream, or set Journal.MaxAge to the same value on all nodes"},
		{"messages", func(j *natsjournal.Journal) { j.MaxMessages = -1 }, "max_msgs 1000000, but this node needs -1: change the stream, or set Journal.MaxMessages"},
		{"bytes", func(j *natsjournal.Journal) { j.MaxBytes = 1 << 21 }, "max_bytes 67108864, but this node needs 2097152: change the stream, or set Journal.MaxBytes"},
		{"replicas", func(j *natsjournal.Journal) { j.Replicas = 3 }, "num_replicas 1, but this node needs 3: change the stream, or set Journal.Replicas"},
		{"storage", func(j *natsjournal.Journal) { j.Memory = true }, "storage File, but this node needs Memory: change the stream, or set Journal.Memory"},
		{"subject", func(j *natsjournal.Journal) { j.Subject = "other" }, `this node needs only "other.<number>"`},
		{"impossible age", func(j *natsjournal.Journal) { j.MaxAge = time.Second }, "Journal.MaxAge is 1s: it must be at least a minute"},
		{"impossible replicas", func(j *natsjournal.Journal) { j.Replicas = -1 }, "Journal.Replicas is -1"},
		{"no connection", func(j *natsjournal.Journal) { j.Conn = nil }, "Journal.Conn is nil"},
	}
	e := startEngine(t)
	own := e.journal()
	add(t, own, "first")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			other := journal(own.Conn)
			test.change(other)
			_, err := other.Append(within(t), message("x"))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			require.ErrorContains(t, err, test.want)
			_, _, err = other.Bounds(within(t))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			_, err = follow(t, other, broadcast.ID{}).next()
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
		})
	}
	add(t, own, "last")
}

// A stream with more than one subject is not a journal.
func TestSettingsOfAForeignStream(t *testing.T) {
	e := startEngine(t)
	own := e.journal()
	add(t, own, "first")
	js := admin(t, own.Conn)
	config := stream(t, js).CachedInfo().Config
	config.Subjects = append(config.Subjects, "more")
	_, err := js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	_, _, err = own.Bounds(within(t))
	require.ErrorIs(t, err, natsjournal.ErrUnusable)
	assert.ErrorContains(t, err, "set Journal.Subject to the same value on all nodes")
}
