package redisjournal

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// script is what a call runs in Redis. Each one has open.lua, which returns the epoch.
type script struct {
	text string
	hash string
}

var (
	//go:embed permission.lua
	permissionText string
	//go:embed witness.lua
	witnessText string
	//go:embed open.lua
	openText string
	//go:embed read.lua
	readText string
	//go:embed add.lua
	addText string
	//go:embed append.lua
	appendText string

	readScript = newScript(permissionText + witnessText + openText + readText)
)

func newScript(text string) script { return script{text: text, hash: redis.NewScript(text).Hash()} }

// newAppendScript returns the script that appends to a stream with this epoch, whose group
// is known in the Redis with this run_id; all are empty if they are not known. The text is
// another one for each, see add.lua.
func newAppendScript(epoch, runID, group string, maxEntries int64) script {
	return newScript(fmt.Sprintf("local known_epoch, known_run_id, known_group, max_entries = %q, %q, %q, %q\n", epoch, runID, group, fmt.Sprint(maxEntries)) +
		permissionText + witnessText + addText + openText + appendText)
}

// reply is what a script returned.
type reply struct {
	epoch  uint64
	runID  string
	group  string // of the epoch
	values []any  // the script's own

	verified bool // the epoch; see add.lua
}

// run calls eval and parses what it returns. It returns when ctx ends, even if Redis does not
// answer.
func (j *Journal) run(ctx context.Context, client redis.UniversalClient, eval func() ([]any, error)) (reply, error) {
	type result struct {
		values []any
		err    error
	}
	// The client checks ctx before it sends, and afterwards observes at most its deadline.
	// If ctx is cancelled, the goroutine ends with the client's ReadTimeout.
	done := make(chan result, 1)
	j.workers.do(func() {
		values, err := eval()
		if err == nil && len(values) < openValues {
			err = fmt.Errorf("a script returned %q", values)
		}
		done <- result{values, err}
	})
	select {
	case r := <-done:
		if r.err != nil {
			return reply{}, j.wrap(r.err)
		}
		answer, err := j.parseReply(r.values)
		if err == nil && client == j.Client {
			j.learnEngine(answer.runID)
		}
		return answer, err
	case <-ctx.Done():
		return reply{}, j.wrap(ctx.Err())
	}
}

// eval runs a script by its hash, or sends its text if Redis does not have it.
func (j *Journal) eval(ctx context.Context, client redis.UniversalClient, s script, args []any) ([]any, error) {
	values, err := j.send(ctx, client, "evalsha", s.hash, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		values, err = j.send(ctx, client, "eval", s.text, args)
	}
	return values, err
}

// noRetry is a command that the client sends once, whatever its MaxRetries. If an answer
// is lost and the command is sent again, its entries are added twice.
type noRetry struct{ *redis.Cmd }

func (noRetry) NoRetry() bool { return true }

// sendKeys sends a script with these keys.
func sendKeys(ctx context.Context, client redis.UniversalClient, command, body string, keys, args []any) ([]any, error) {
	cmd := noRetry{redis.NewCmd(ctx, slices.Concat([]any{command, body, len(keys)}, keys, args)...)}
	if err := client.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Slice()
}

// openArgs returns the arguments of open.lua: the number of a new epoch, whether the engine
// is durable, and what this node knows.
func (j *Journal) openArgs() []any {
	epoch := uint64(0)
	for epoch <= 1 { // reserved
		epoch = rand.Uint64()
	}
	durable := 0
	if j.Durable {
		durable = 1
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]any{formatEpoch(epoch), durable}, j.knowledge.args()...)
}

// openValues is how many values each reply begins with: the epoch, what open.lua has changed,
// the run_id and the epoch's group.
const openValues = 4

// Why there is a new epoch, if there is.
const (
	streamCreated  = "created"  // there was no stream
	epochReplaced  = "replaced" // the epoch belonged to another history of the engine
	entriesLost    = "lost"     // the stream has not all of what this node or the witness has seen
	entriesForked  = "forked"   // the same, and others were added in their place
	streamReturned = "returned" // the stream is back in an epoch that it had left

	// The stream had a witness, which is not there any more.
	streamUnwitnessed = "unwitnessed"

	// epochUnverified stands there if append.lua had no need to verify the epoch.
	epochUnverified = "unverified"
)

// parseReply parses what a script returned, and logs what open.lua has changed.
func (j *Journal) parseReply(values []any) (reply, error) {
	text, _ := values[0].(string)
	epoch, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return reply{}, j.wrap(err)
	}
	logger := j.logger()
	switch values[1] {
	case streamCreated:
		logger.Info("redisjournal: created a new stream", "key", j.key(), "epoch", epoch)
	case epochReplaced:
		logger.Warn("redisjournal: Redis was restarted or replaced and may have lost messages: the stream has a new epoch", "key", j.key(), "epoch", epoch)
	case entriesLost, entriesForked:
		logger.Error("redisjournal: the stream has lost messages, or was replaced by an older copy: it has a new epoch",
			"key", j.key(), "epoch", epoch, "durable", j.Durable)
	case streamUnwitnessed:
		logger.Error("redisjournal: the witness of the stream was deleted or evicted, so that the stream may be an older copy: it has a new epoch",
			"key", j.key(), "witness", j.witnessKey(), "epoch", epoch)
	case streamReturned:
		logger.Error("redisjournal: an older stream was moved back to the key: it has a new epoch", "key", j.key(), "epoch", epoch)
	}
	runID, _ := values[2].(string)
	group, _ := values[3].(string)
	return reply{epoch: epoch, runID: runID, group: group, verified: values[1] != epochUnverified, values: values[openValues:]}, nil
}

func (j *Journal) logger() *slog.Logger { return cmp.Or(j.Logger, slog.Default()) }
