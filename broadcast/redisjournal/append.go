package redisjournal

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

// maxBatch is how many bytes of messages are appended at once, or one message. It is less
// than any limit that Redis can be set to.
const maxBatch = 512 << 10

// Append adds messages in their order and returns their IDs. While Redis is unreachable it
// returns an error: at once, at the client's timeouts, or when ctx ends.
//
// A message that Redis refuses, such as one that is larger than its proto-max-bulk-len, is an
// error of its own: the others are added. Messages of more than 512 KiB together are sent
// in several commands. After one of these has failed the next ones are not sent.
func (j *Journal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	if err := j.check(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	if len(ms) == 0 {
		return nil, nil
	}
	a := appending{journal: j, ids: make([]broadcast.ID, len(ms)), errs: make(broadcast.AppendErrors, len(ms))}
	var batch []int // indexes of messages
	size := 0
	for i := range ms {
		n := sizeOf(&ms[i])
		if err := j.checkSize(ctx, &ms[i], n); err != nil {
			a.errs[i] = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
			continue
		}
		if len(batch) > 0 && size+n > maxBatch {
			a.add(ctx, ms, batch)
			batch, size = batch[:0], 0
		}
		batch = append(batch, i)
		size += n
	}
	a.add(ctx, ms, batch)
	return a.result()
}

// appending is one call of Append.
type appending struct {
	journal *Journal

	// One of each for each message.
	ids  []broadcast.ID
	errs broadcast.AppendErrors

	failed error // why a batch failed as a whole; the next ones are not sent
}

// add appends the messages with these indexes.
func (a *appending) add(ctx context.Context, ms []broadcast.Message, batch []int) {
	switch {
	case len(batch) == 0:
		return
	case a.failed != nil:
		for _, i := range batch {
			a.errs[i] = fmt.Errorf("%w: not sent, because messages before it failed: %w", broadcast.ErrNotPublished, a.failed)
		}
		return
	}
	j := a.journal
	reply, err := j.run(ctx, j.Client, func() ([]any, error) {
		entries := make([]any, 1, 1+8*len(batch))
		entries[0] = newTag()
		for _, i := range batch {
			entries = encode(entries, &ms[i])
		}
		return j.evalAppend(ctx, entries)
	})
	j.appended(reply, err)
	if err == nil && len(reply.values) != len(batch) {
		err = j.wrap(fmt.Errorf("the script returned %d IDs for %d messages", len(reply.values), len(batch)))
	}
	if err != nil {
		if notAdded(err) {
			err = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
		}
		a.failed = err
		for _, i := range batch {
			a.errs[i] = err
		}
		return
	}
	a.accept(reply, batch)
}

// accept takes what the script returned for the messages with these indexes.
func (a *appending) accept(reply reply, batch []int) {
	j, newest := a.journal, uint64(0)
	for n, i := range batch {
		text, _ := reply.values[n].(string)
		if !strings.HasPrefix(text, idPrefix) {
			a.errs[i] = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, j.wrap(engineError(text)))
			continue
		}
		if a.ids[i], a.errs[i] = j.parseID(reply.epoch, text); a.errs[i] == nil {
			newest = a.ids[i].Seq()
		}
	}
	j.learnNewest(reply.epoch, newest)
}

// result returns what Append returns.
func (a *appending) result() ([]broadcast.ID, error) {
	failures := 0
	for _, err := range a.errs {
		if err != nil {
			failures++
		}
	}
	switch {
	case failures == 0:
		return a.ids, nil
	case len(a.errs) == 1, failures == len(a.errs) && a.errs[len(a.errs)-1] == a.errs[0]:
		return nil, a.errs[0]
	}
	return a.ids, a.errs
}

// newTag returns a tag for the entries of one Append.
func newTag() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// notAdded reports whether an error of the append script proves that nothing was added:
// the script was not sent, or the engine refused it. The script refuses as a whole before it
// adds the first entry.
func notAdded(err error) bool {
	if errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) {
		return true
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	// The engine's refusals, and those of the scripts, begin with a code such as OOM,
	// READONLY or LOADING. A plain ERR may come from a proxy that has given up waiting.
	var refusal redis.Error
	if !errors.As(err, &refusal) {
		return false
	}
	code, rest, _ := strings.Cut(refusal.Error(), " ")
	if code == "ERR" {
		return strings.HasPrefix(rest, "Protocol error: invalid") // Redis has not read the command to its end
	}
	return code == strings.ToUpper(code)
}
