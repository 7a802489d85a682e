package redisjournal

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// appender is what Append knows of the stream that it has appended to. The zero value is that
// nothing is known.
type appender struct {
	epoch    uint64
	group    string    // of the epoch
	runID    string    // of the Redis
	verified time.Time // when Redis last verified the epoch

	script script // for all of these
	loaded bool   // Redis has it
}

// appender returns what Append knows, and the highest sequence that the stream must go on
// after.
func (j *Journal) knownAppender() (known appender, seen uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	known = j.appender
	if known.script.text == "" {
		known.script = newAppendScript("", "", "", j.maxEntries())
		known.loaded = true // by another node, or soon
	}
	if known.epoch != j.knowledge.epoch {
		known.verified = time.Time{}
	}
	return known, j.knowledge.newest
}

// evalAppend appends entries with a script that need not verify the epoch if that was done
// within the last second; else with all of it.
func (j *Journal) evalAppend(ctx context.Context, entries []any) ([]any, error) {
	known, seen := j.knownAppender()
	if known.loaded && time.Since(known.verified) < lookInterval {
		values, err := j.send(ctx, j.Client, "evalsha", known.script.hash, append([]any{"", seen}, entries...))
		if err == nil && len(values) > 0 || err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
			return values, err
		}
	}
	args := append(j.openArgs(), entries...)
	if known.loaded {
		return j.eval(ctx, j.Client, known.script, args)
	}
	return j.send(ctx, j.Client, "eval", known.script.text, args)
}

// appended records what an Append has returned.
func (j *Journal) appended(r reply, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	known := &j.appender
	switch {
	case err != nil:
		known.verified = time.Time{}
	case known.epoch != r.epoch || known.runID != r.runID || known.group != r.group:
		*known = appender{
			epoch: r.epoch, group: r.group, runID: r.runID,
			script: newAppendScript(formatEpoch(r.epoch), r.runID, r.group, j.maxEntries()),
		}
	case !known.loaded || r.verified:
		known.loaded, known.verified = true, time.Now()
	}
}
