package redisjournal

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// witnessKey returns the key of the witness, see witness.lua. In a cluster it has the slot of the
// stream, unless that key has a "}" without being tagged.
func (j *Journal) witnessKey() string {
	const suffix = ":witness"
	key := j.key()
	if _, rest, ok := strings.Cut(key, "{"); ok && strings.Index(rest, "}") > 0 {
		return key + suffix // it has a tag
	}
	return "{" + key + "}" + suffix
}

// witnessRefusal is that Redis refuses the key of the witness. The zero value is that it does
// not.
type witnessRefusal struct {
	at     time.Time // when it has done so last
	logged bool
}

// refusalAge is for how long the witness is done without, before the user may have got the
// permission.
const refusalAge = time.Minute

// send sends a script once. If Redis refuses the key of the witness, the script does without.
func (j *Journal) send(ctx context.Context, client redis.UniversalClient, command, body string, args []any) ([]any, error) {
	var refused error
	if !j.doesWithoutWitness() {
		values, err := sendKeys(ctx, client, command, body, []any{j.key(), j.witnessKey()}, args)
		if !refusesKey(err) {
			return values, err
		}
		refused = err
	}
	values, err := sendKeys(ctx, client, command, body, []any{j.key()}, args)
	if refused != nil && !refusesKey(err) { // else it is the stream's key that Redis refuses
		j.witnessRefused(refused)
	}
	return values, err
}

// refusesKey reports whether an error is that Redis refuses one of the keys of a script.
func refusesKey(err error) bool {
	return redis.HasErrorPrefix(err, "CROSSSLOT") ||
		redis.HasErrorPrefix(err, "NOPERM") && strings.Contains(err.Error(), " key")
}

func (j *Journal) doesWithoutWitness() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.refusal.at.IsZero() && time.Since(j.refusal.at) < refusalAge
}

func (j *Journal) witnessRefused(err error) {
	j.mu.Lock()
	logged := j.refusal.logged
	j.refusal = witnessRefusal{at: time.Now(), logged: true}
	j.mu.Unlock()
	if !logged {
		j.logger().Warn("redisjournal: Redis refuses the key of the witness, so that it is not noticed if the stream is replaced by an older copy while no server runs: "+
			"allow this key beside that of the stream", "key", j.key(), "witness", j.witnessKey(), "error", err)
	}
}
