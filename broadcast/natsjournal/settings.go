package natsjournal

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultStream      = "fanfare"
	defaultMaxAge      = 24 * time.Hour
	defaultMaxMessages = 1_000_000
	defaultMaxBytes    = 1 << 30

	// duplicateWindow is how long the engine recognises a message that it already has.
	// It must be well above maxOutage, because Append repeats messages for that long.
	duplicateWindow = time.Minute
)

// check is called first by every method. It returns an error that names the field whose
// value is impossible, or the error of ctx.
func (j *Journal) check(ctx context.Context) error {
	switch {
	case j.Conn == nil:
		return fmt.Errorf("%w: Journal.Conn is nil: set it to a connection", ErrUnusable)
	case j.MaxAge > 0 && j.MaxAge < time.Minute:
		return fmt.Errorf("%w: Journal.MaxAge is %v: it must be at least a minute", ErrUnusable, j.MaxAge)
	case j.Replicas < 0:
		return fmt.Errorf("%w: Journal.Replicas is %d: it must not be negative", ErrUnusable, j.Replicas)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("natsjournal: %w", err)
	}
	return nil
}

func (j *Journal) stream() string { return cmp.Or(j.Stream, defaultStream) }

func (j *Journal) subject() string { return cmp.Or(j.Subject, j.stream()) }

// streamConfig returns the configuration with which the stream is created, without its
// subject.
func (j *Journal) streamConfig() jetstream.StreamConfig {
	config := jetstream.StreamConfig{
		Name:              j.stream(),
		Description:       "the log of fanfare's Hubs",
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxAge:            max(cmp.Or(j.MaxAge, defaultMaxAge), 0),
		MaxMsgs:           max(cmp.Or(j.MaxMessages, defaultMaxMessages), -1),
		MaxBytes:          max(cmp.Or(j.MaxBytes, defaultMaxBytes), -1),
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		Replicas:          cmp.Or(j.Replicas, 1),
		Duplicates:        duplicateWindow,
		Storage:           jetstream.FileStorage,
	}
	if j.Memory {
		config.Storage = jetstream.MemoryStorage
	}
	return config
}

// checkStream returns an error that names the first setting in which an existing stream
// differs from this node's. The Journal does not change it: another node may want it as
// it is, and the two would change it back and forth.
func (j *Journal) checkStream(have jetstream.StreamConfig) error {
	want := j.streamConfig()
	for _, setting := range []struct {
		name, field string
		have, want  any
	}{
		{"retention", "", have.Retention, want.Retention},
		{"discard", "", have.Discard, want.Discard},
		{"max_age", "Journal.MaxAge", have.MaxAge, want.MaxAge},
		{"max_msgs", "Journal.MaxMessages", have.MaxMsgs, want.MaxMsgs},
		{"max_bytes", "Journal.MaxBytes", have.MaxBytes, want.MaxBytes},
		{"max_msgs_per_subject", "", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"max_msg_size", "", have.MaxMsgSize, want.MaxMsgSize},
		{"num_replicas", "Journal.Replicas", have.Replicas, want.Replicas},
		{"storage", "Journal.Memory", have.Storage, want.Storage},
		{"duplicate_window", "", have.Duplicates, want.Duplicates},
		{"no_ack", "", have.NoAck, want.NoAck},
		{"sealed", "", have.Sealed, want.Sealed},
		{"mirror", "", have.Mirror != nil, false},
		{"sources", "", len(have.Sources) > 0, false},
		{"subject_transform", "", have.SubjectTransform != nil, false},
	} {
		if setting.have == setting.want {
			continue
		}
		remedy := "change the stream"
		if setting.field != "" {
			remedy += ", or set " + setting.field + " to the same value on all nodes"
		}
		return fmt.Errorf("%w: stream %q has %s %v, but this node needs %v: %s",
			ErrUnusable, have.Name, setting.name, setting.have, setting.want, remedy)
	}
	return nil
}
