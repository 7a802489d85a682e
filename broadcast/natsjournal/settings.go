package natsjournal

import (
	"cmp"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultStream      = "fanfare"
	defaultMaxAge      = 24 * time.Hour
	defaultMaxMessages = 1_000_000
	defaultMaxBytes    = 1 << 30

	// repetitions is how long the engine recognises a message that it has already.
	// It must be well above patience: that is how long Append repeats itself.
	repetitions = time.Minute
)

func (j *Journal) stream() string { return cmp.Or(j.Stream, defaultStream) }

func (j *Journal) subject() string { return cmp.Or(j.Subject, j.stream()) }

// settings are what the stream is made with, but for its subject.
func (j *Journal) settings() jetstream.StreamConfig {
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
		Duplicates:        repetitions,
		Storage:           jetstream.FileStorage,
	}
	if j.Memory {
		config.Storage = jetstream.MemoryStorage
	}
	return config
}

// check says which setting of the stream is not this node's. To change it back
// would be a fight with the node whose setting it is.
func (j *Journal) check(have jetstream.StreamConfig) error {
	want := j.settings()
	for _, setting := range []struct {
		name, field string
		have, want  any
	}{
		{"retention", "", have.Retention, want.Retention},
		{"discard policy", "", have.Discard, want.Discard},
		{"maximum age", "Journal.MaxAge", have.MaxAge, want.MaxAge},
		{"maximum of messages", "Journal.MaxMessages", have.MaxMsgs, want.MaxMsgs},
		{"maximum of bytes", "Journal.MaxBytes", have.MaxBytes, want.MaxBytes},
		{"maximum of messages per subject", "", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"maximum message size", "", have.MaxMsgSize, want.MaxMsgSize},
		{"number of replicas", "Journal.Replicas", have.Replicas, want.Replicas},
		{"storage", "Journal.Memory", have.Storage, want.Storage},
		{"window for duplicates", "", have.Duplicates, want.Duplicates},
		{"refusal to acknowledge", "", have.NoAck, want.NoAck},
		{"being sealed", "", have.Sealed, want.Sealed},
		{"being a mirror", "", have.Mirror != nil, false},
		{"having sources", "", len(have.Sources) > 0, false},
		{"transforming subjects", "", have.SubjectTransform != nil, false},
	} {
		if setting.have == setting.want {
			continue
		}
		remedy := "change the stream"
		if setting.field != "" {
			remedy += ", or set " + setting.field + " alike on all nodes"
		}
		return fmt.Errorf("%w: stream %q has a %s of %v, this node wants %v: %s",
			ErrUnusable, have.Name, setting.name, setting.have, setting.want, remedy)
	}
	return nil
}
