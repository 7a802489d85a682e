package natsjournal

import "time"

// ParsePlace is parsePlace for tests.
func ParsePlace(subject string) (stream, consumer uint64, storedAt time.Time, ok bool) {
	p, ok := parsePlace(subject)
	return p.streamSeq, p.consumerSeq, p.storedAt, ok
}
