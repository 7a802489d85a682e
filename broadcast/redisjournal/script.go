package redisjournal

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// script is what a call runs in Redis. Each one begins with open.lua, which returns the
// epoch: a server never relies on an epoch from an earlier call.
type script struct {
	text   string
	hash   string
	values int // how many a reply has at least, after those of open.lua
}

var (
	//go:embed open.lua
	openText string
	//go:embed read.lua
	readText string
	//go:embed append.lua
	appendText string

	readScript   = newScript(readText, 4)
	appendScript = newScript(appendText, 0)
)

func newScript(text string, values int) script {
	text = openText + text
	return script{text: text, hash: redis.NewScript(text).Hash(), values: values}
}

// reply is what a script returned.
type reply struct {
	epoch  uint64
	runID  string
	values []any // the script's own
}

// run runs a script through a client with the given arguments, which follow those of
// open.lua. It returns when ctx ends, even if Redis does not answer.
func (j *Journal) run(ctx context.Context, client redis.UniversalClient, s script, args ...any) (reply, error) {
	type result struct {
		values []any
		err    error
	}
	// The client checks ctx before it sends, and afterwards observes at most its deadline.
	// If ctx is cancelled, the goroutine ends with the client's ReadTimeout.
	done := make(chan result, 1)
	go func() {
		values, err := j.eval(ctx, client, s, append(j.openArgs(), args...))
		done <- result{values, err}
	}()
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
	if err == nil && len(values) < openValues+s.values {
		err = fmt.Errorf("a script returned %q", values)
	}
	return values, err
}

// noRetry is a command that the client sends once, whatever its MaxRetries. If an answer
// is lost and the command is sent again, its entries are added twice.
type noRetry struct{ *redis.Cmd }

func (noRetry) NoRetry() bool { return true }

func (j *Journal) send(ctx context.Context, client redis.UniversalClient, command, body string, args []any) ([]any, error) {
	cmd := noRetry{redis.NewCmd(ctx, append([]any{command, body, 1, j.key()}, args...)...)}
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
	return append([]any{formatEpoch(epoch), durable}, j.known()...)
}

// openValues is how many values open.lua adds to the beginning of each reply: the epoch,
// what it has changed, and the run_id.
const openValues = 3

// Why there is a new epoch, if there is.
const (
	streamCreated  = "created"  // there was no stream
	epochReplaced  = "replaced" // the epoch belonged to another history of the engine
	entriesLost    = "lost"     // the stream has not all of what this node has seen
	streamReturned = "returned" // the stream is back in an epoch that it had left
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
	case entriesLost:
		logger.Error("redisjournal: the stream has lost messages that this node has seen, or was replaced by an older copy: it has a new epoch",
			"key", j.key(), "epoch", epoch, "durable", j.Durable)
	case streamReturned:
		logger.Error("redisjournal: an older stream was moved back to the key: it has a new epoch", "key", j.key(), "epoch", epoch)
	}
	runID, _ := values[2].(string)
	return reply{epoch: epoch, runID: runID, values: values[openValues:]}, nil
}

func (j *Journal) logger() *slog.Logger { return cmp.Or(j.Logger, slog.Default()) }
