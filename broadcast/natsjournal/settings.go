package natsjournal

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultStream      = "fanfare"
	defaultMaxAge      = 24 * time.Hour
	defaultMaxMessages = 1_000_000
	defaultMaxBytes    = 1 << 30

	// duplicateWindow is how long the engine recognises a message that it already has.
	// Append repeats messages for a fraction of it, and at most for maxOutage.
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
	case j.Domain != "" && j.APIPrefix != "":
		return fmt.Errorf("%w: Journal.Domain and Journal.APIPrefix are both set: unset one, since the prefix of a domain is $JS.<domain>.API", ErrUnusable)
	}
	if err := j.checkConn(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("natsjournal: %w", err)
	}
	return nil
}

func (j *Journal) stream() string { return cmp.Or(j.Stream, defaultStream) }

func (j *Journal) subject() string { return cmp.Or(j.Subject, j.stream()) }

func (j *Journal) logger() *slog.Logger { return cmp.Or(j.Logger, slog.Default()) }

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

// checkStream returns an error that names the first setting with which an existing stream
// would lose, refuse or change entries, or hold entries of others. The Journal repairs
// nothing: another node may want the stream as it is, and the two would change it back and
// forth.
func (j *Journal) checkStream(have jetstream.StreamConfig) error {
	want := j.streamConfig()
	for _, setting := range []struct {
		name       string
		have, want any
	}{
		{"sealed", have.Sealed, want.Sealed}, // first, since sealing changes others
		{"retention", have.Retention, want.Retention},
		{"discard", have.Discard, want.Discard},
		{"no_ack", have.NoAck, want.NoAck},
		{"mirror", have.Mirror != nil, false},
		{"sources", len(have.Sources) > 0, false},
		{"subject_transform", have.SubjectTransform != nil, false},
		{"allow_msg_counter", have.AllowMsgCounter, false},
	} {
		if setting.have != setting.want {
			return fmt.Errorf("%w: stream %q has %s %v, but a Journal needs %v: change the stream",
				ErrUnusable, have.Name, setting.name, setting.have, setting.want)
		}
	}
	return nil
}

// difference is a setting of an existing stream that is not as this node's fields say,
// and does not change what an entry means.
type difference struct {
	name, field string
	have, want  any
}

// differences returns those of an existing stream. The stream is used as it is.
func (j *Journal) differences(have jetstream.StreamConfig) []difference {
	want := j.streamConfig()
	return slices.DeleteFunc([]difference{
		{"max_age", "MaxAge", have.MaxAge, want.MaxAge},
		{"max_msgs", "MaxMessages", have.MaxMsgs, want.MaxMsgs},
		{"max_bytes", "MaxBytes", have.MaxBytes, want.MaxBytes},
		{"max_msgs_per_subject", "", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"max_msg_size", "", have.MaxMsgSize, want.MaxMsgSize},
		{"num_replicas", "Replicas", have.Replicas, want.Replicas},
		{"storage", "Memory", have.Storage, want.Storage},
		{"duplicate_window", "", have.Duplicates, want.Duplicates},
	}, func(d difference) bool { return d.have == d.want })
}

// warnOfDifferences logs each difference once, and once more for another value.
func (j *Journal) warnOfDifferences(have jetstream.StreamConfig) {
	for _, d := range j.differences(have) {
		j.mu.Lock()
		known := j.warned[d.name] == d.have
		if j.warned == nil {
			j.warned = make(map[string]any)
		}
		j.warned[d.name] = d.have
		j.mu.Unlock()
		if known {
			continue
		}
		remedy := "change the stream"
		if d.field != "" {
			remedy += " (nats stream edit), or set Journal." + d.field + " to that value"
		}
		j.logger().Warn("natsjournal: the stream has another setting than this node would give it, and is used as it is: "+remedy,
			"stream", have.Name, "setting", d.name, "stream has", d.have, "this node", d.want)
	}
}
