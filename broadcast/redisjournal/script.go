package redisjournal

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// script is what a call does. It asks the engine for the epoch first, so that nothing
// which this server knows from before can be out of date.
type script struct {
	text, hash string
	values     int // in its reply, at least
}

var (
	//go:embed open.lua
	openText string
	//go:embed look.lua
	lookText string
	//go:embed append.lua
	appendText string

	lookScript   = newScript(lookText, 5)
	appendScript = newScript(appendText, 2)
)

func newScript(text string, values int) script {
	text = openText + text
	return script{text, redis.NewScript(text).Hash(), values}
}

// once is a command that the client sends once, whatever its MaxRetries: what is sent
// again after an answer that was lost would be there twice.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

// run runs a script through a client, and waits no longer than ctx.
func (j *Journal) run(ctx context.Context, client redis.UniversalClient, s script, args []any) ([]any, error) {
	type result struct {
		reply []any
		err   error
	}
	// The client would look at ctx only before it sends, and afterwards at most at its
	// deadline. What is left behind ends with the client's ReadTimeout.
	done := make(chan result, 1)
	go func() {
		reply, err := j.send(ctx, client, "evalsha", s.hash, args)
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			reply, err = j.send(ctx, client, "eval", s.text, args)
		}
		if err == nil && len(reply) < s.values {
			err = fmt.Errorf("a script returned %q", reply)
		}
		done <- result{reply, err}
	}()
	select {
	case r := <-done:
		return r.reply, j.explain(r.err)
	case <-ctx.Done():
		return nil, j.explain(ctx.Err())
	}
}

func (j *Journal) send(ctx context.Context, client redis.UniversalClient, command, body string, args []any) ([]any, error) {
	cmd := once{redis.NewCmd(ctx, append([]any{command, body, 1, j.key()}, args...)...)}
	if err := client.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Slice()
}

func (j *Journal) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redisjournal: stream %q: %w", j.key(), err)
}

// opening returns the arguments of open.lua.
func (j *Journal) opening() []any {
	epoch := uint64(0)
	for epoch <= 1 { // reserved
		epoch = rand.Uint64()
	}
	durable := 0
	if j.Durable {
		durable = 1
	}
	return []any{strconv.FormatUint(epoch, 16), durable}
}

// opened reads what open.lua replied: the epoch, and what it did.
func (j *Journal) opened(reply []any) (epoch uint64, err error) {
	text, _ := reply[0].(string)
	if epoch, err = strconv.ParseUint(text, 16, 64); err != nil {
		return 0, j.explain(err)
	}
	switch reply[1] {
	case "made":
		j.logger().Info("redisjournal: made a new stream", "key", j.key(), "epoch", epoch)
	case "doubted":
		j.logger().Warn("redisjournal: the engine was restarted or replaced and may have lost messages, the stream has a new epoch", "key", j.key(), "epoch", epoch)
	}
	return epoch, nil
}
