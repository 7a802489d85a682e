package broadcast_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// TestModel runs a Hub beside a small model of it, on one goroutine and with a clock of its
// own, through random sequences of what publishers, streams and clients do. After each step
// it checks:
//
//	each stream gets each message of its topics published after its position exactly
//	once, in order, or a gap where something was lost;
//	no gap is reported where nothing was lost.
//
// In half of the runs topics have Keys, events that start over, and ends. There it checks, for a
// client whose connection may be cut after any message:
//
//	at each position that it has been sent, it has of each Key what was the newest then, or
//	was told of a loss, and no older one came after a newer one;
//	a round returns a Key once, and none that came after it had begun with the topic, so that
//	a Key which changes in turn keeps no other one waiting;
//	a beginning has all that is kept, or names the topic as partial, and takes the place of
//	each gap.
//
// A run is a list of numbers, and each number alone decides one operation. A failing run can
// therefore be cut down to the operations that matter, which are printed with the seed.
var (
	modelSeed = flag.Uint64("model.seed", 1, "seed of the first random run of a Hub beside its model; each run has the next")
	modelRuns = flag.Int("model.runs", 0, "how many runs; if zero, 2,000, or as many as take a second; with LONG=1 10,000, or two seconds")
)

func TestModel(t *testing.T) {
	t.Parallel()
	const atOnce = 500
	runs, most := *modelRuns, time.Duration(0)
	switch {
	case runs > 0:
	case !longtest.Enabled():
		runs, most = 2_000, time.Second
	default:
		// With the race detector, which finds nothing on one goroutine, a run takes ten
		// times as long.
		runs, most = 10_000, 2*time.Second
	}
	var seen modelTally
	done, began := 0, time.Now()
	for done < runs && (most == 0 || time.Since(began) < most) {
		some := min(atOnce, runs-done)
		synctest.Test(t, func(t *testing.T) {
			for run := range some {
				seed := *modelSeed + uint64(done+run)
				ops := drawRun(seed)
				if bad := playRun(t.Context(), ops, &seen, nil); bad != "" {
					require.Fail(t, "the Hub and its model disagree", "-model.seed=%d -model.runs=1: %s\n%s", seed, bad, shrinkRun(t.Context(), ops))
				}
			}
		})
		done += some
	}
	t.Logf("%d runs: %+v", done, seen)
	if done < atOnce {
		return
	}
	// The runs must have met what they are to test.
	assert.NotZero(t, seen.Gaps)
	assert.NotZero(t, seen.Armed)
	assert.NotZero(t, seen.Overruns)
	assert.NotZero(t, seen.Forgotten)
	assert.NotZero(t, seen.Trimmed)
	assert.NotZero(t, seen.Curtailed)
	assert.NotZero(t, seen.Few)
	assert.NotZero(t, seen.Resumed)
	assert.NotZero(t, seen.Changed)
	// The table of tombstones is bounded, so two topics may collide, and a resume on one of
	// them get a gap without a loss. That is rare.
	assert.LessOrEqual(t, seen.Collisions, 10+seen.Tombstones/100, "gaps because of another topic")
}

// modelTally counts what the runs met.
type modelTally struct {
	Messages, Polls, Gaps  int
	Armed                  int // Polls that returned something and armed Notify
	Overruns               int // gaps in the middle of a stream
	Resumed, Odd           int // streams resumed; those from a position that the log does not have
	Forgotten, Trimmed     int // topics forgotten after TopicTTL; those forgotten with their last message
	Curtailed              int // Last messages that were evicted before they were polled
	Few                    int // gaps because of that
	Tombstones, Collisions int // resumes on which another topic's tombstone may cause a gap, and does
	Changed                int // times that a stream was given other topics
	State                  stateTally
}

// drawRun returns a run: the first number decides what the Hub is like, each other
// one an operation.
func drawRun(seed uint64) []uint64 {
	rng := rand.New(rand.NewPCG(seed, 0))
	ops := make([]uint64, 20+rng.IntN(80))
	for i := range ops {
		ops[i] = rng.Uint64()
	}
	return ops
}

// shrinkRun leaves out of a failing run what it fails without, and returns the rest
// as text.
func shrinkRun(ctx context.Context, ops []uint64) string {
	for size := len(ops) / 2; size > 0; {
		shorter := false
		for from := 1; from+size <= len(ops); {
			tried := slices.Concat(ops[:from], ops[from+size:])
			if playRun(ctx, tried, new(modelTally), nil) == "" {
				from += size
				continue
			}
			ops, shorter = tried, true
		}
		if !shorter || size > 1 {
			size /= 2
		}
	}
	var trace strings.Builder
	bad := playRun(ctx, ops, new(modelTally), &trace)
	return "the shortest way there:\n" + trace.String() + "then: " + bad
}

// violation is what a step panics with when the Hub breaks a promise.
type violation string

// playRun runs ops and returns what went wrong, or "".
func playRun(ctx context.Context, ops []uint64, seen *modelTally, trace *strings.Builder) (bad string) {
	if ops[0]%2 == 1 {
		return playState(ctx, ops, &seen.State, trace)
	}
	w := &world{ctx: ctx, tally: seen, trace: trace, source: new(rand.PCG), buf: make([]*broadcast.Message, 8)}
	w.rng = rand.New(w.source)
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			bad = string(p)
		default:
			panic(p)
		}
	}()
	w.begin(ops[0])
	for _, op := range ops[1:] {
		w.source.Seed(op, 1)
		w.step()
		w.check()
	}
	w.shut()
	return ""
}
