package filejournal_test

import (
	"errors"
	"flag"
	"fmt"

	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

// TestModel runs a Journal through random appends, failing disks, crashes and power cuts. After
// each start it checks:
//
//	what was acknowledged is there, with its ID, or the log has a new epoch or a gap;
//	a new epoch comes only where something acknowledged is missing;
//	what surely was not appended is not there;
//	no ID is given twice.
var (
	modelSeed = flag.Uint64("model.seed", 1, "seed of the first random run; each run has the next")
	modelRuns = flag.Int("model.runs", 60, "how many runs")
)

func TestModel(t *testing.T) {
	var seen tally
	for i := range *modelRuns {
		seed := *modelSeed + uint64(i)
		w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), seen: &seen, content: map[broadcast.ID]string{}, dir: t.TempDir()}
		w.disk = newFaultyDisk(w.rng)
		w.lazy = w.rng.IntN(4) == 0
		w.start()
		for range 20 + w.rng.IntN(60) {
			w.step()
		}
		filejournal.Kill(w.journal)
	}
	t.Logf("%+v", seen)
	if *modelRuns >= 60 {
		require.NotZero(t, seen.Refused)
		require.NotZero(t, seen.Unsure)
		require.NotZero(t, seen.Epochs)
		require.NotZero(t, seen.PowerCuts)
	}
}

type tally struct {
	Appended, Refused, Unsure int // messages
	Kills, PowerCuts, Cuts    int
	Epochs                    int // new ones
}

// world is a folder, the Journal on it, and what it must have.
type world struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	seen *tally
	dir  string
	disk *faultyDisk
	lazy bool

	journal *filejournal.Journal
	epoch   uint64
	acked   []broadcast.Message // in this epoch, in order
	refused map[string]bool     // texts that were surely not appended
	content map[broadcast.ID]string
	number  int
	holes   bool // a power cut has left some of what was not synced
	missing bool // something acknowledged may be missing at the next start
}

func (w *world) require(ok bool, format string, args ...any) {
	w.t.Helper()
	require.True(w.t, ok, "-model.seed=%d -model.runs=1: %s", w.seed, fmt.Sprintf(format, args...))
}

func (w *world) step() {
	switch what := w.rng.IntN(100); {
	case what < 70:
		w.append()
	case what < 74:
		w.disk.failNext["write"] = errDisk
	case what < 78:
		w.disk.failNext["sync"] = errDisk
	case what < 82:
		w.disk.room = w.rng.IntN(400)
	case what < 86:
		w.disk.room = -1
	case what < 90:
		w.seen.Kills++
		w.restart(func() { filejournal.Kill(w.journal) })
	case what < 94:
		w.restart(func() { err := w.journal.Close(); w.require(err == nil, "Close: %v", err) })
	case what < 97:
		w.seen.PowerCuts++
		w.restart(func() {
			filejournal.Kill(w.journal)
			w.require(w.disk.cutPower() == nil, "cutting the power")
			w.missing = w.missing || w.lazy
		})
	default:
		w.seen.Cuts++
		w.restart(w.cutFile)
	}
}

func (w *world) append() {
	ms := make([]broadcast.Message, 1+w.rng.IntN(3))
	for i := range ms {
		w.number++
		ms[i] = broadcast.Message{Topic: "a", Data: fmt.Appendf(nil, "%d %s", w.number, make([]byte, w.rng.IntN(40)))}
	}
	ids, err := w.journal.Append(w.t.Context(), ms...)
	for i, m := range ms {
		text := string(m.Data)
		switch {
		case err == nil:
			w.seen.Appended++
			w.give(ids[i], text)
			m.ID = ids[i]
			w.acked = append(w.acked, m)
		case errors.Is(err, broadcast.ErrNotPublished):
			w.seen.Refused++
			w.refused[text] = true
		default:
			w.seen.Unsure++
		}
	}
}

// give notes that an ID stands for a text.
func (w *world) give(id broadcast.ID, text string) {
	had, ok := w.content[id]
	w.require(!ok || had == text, "%v was given to %q and to %q", id, had, text)
	w.content[id] = text
}

// cutFile kills the process and cuts its newest segment somewhere.
func (w *world) cutFile() {
	filejournal.Kill(w.journal)
	names, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
	w.require(err == nil && len(names) > 0, "no segment")
	slices.Sort(names)
	name := names[len(names)-1]
	info, err := os.Stat(name)
	w.require(err == nil, "%v", err)
	w.require(os.Truncate(name, w.rng.Int64N(info.Size()+1)) == nil, "truncate")
	w.missing = true
}

func (w *world) restart(end func()) {
	w.disk.room, w.disk.failNext = -1, map[string]error{}
	end()
	w.start()
}

// start opens the folder and checks what is there.
func (w *world) start() {
	w.journal = filejournal.With(&filejournal.Journal{Dir: w.dir, MaxBytes: -1, Logger: slog.New(slog.DiscardHandler)}, w.disk)
	if w.lazy {
		w.journal.SyncEvery = -1
	}
	_, newest, err := w.journal.Bounds(w.t.Context())
	w.require(err == nil, "Bounds: %v", err)
	there, reported := map[broadcast.ID]string{}, map[uint64]bool{}
	if newest.Seq() > 0 {
		last := uint64(0)
		for m, err := range w.journal.Tail(w.t.Context(), broadcast.ID{}) {
			if errors.Is(err, broadcast.ErrGap) && (w.missing || w.holes) {
				w.holes = true
				for ; last < m.ID.Seq(); last++ {
					reported[last+1] = true
				}
				if last == newest.Seq() {
					break
				}
				continue
			}
			w.require(err == nil, "Tail: %v", err)
			w.require(m.ID.Seq() == last+1, "%v follows %d", m.ID, last)
			last = m.ID.Seq()
			text := string(m.Data)
			w.require(!w.refused[text], "%q is there, and was surely not appended", text)
			there[m.ID] = text
			w.give(m.ID, text)
			if m.ID == newest {
				break
			}
		}
	}
	whole := true
	for _, m := range w.acked {
		whole = whole && (there[m.ID] == string(m.Data) || reported[m.ID.Seq()])
	}
	switch {
	case w.epoch == 0:
	case newest.Epoch() == w.epoch:
		w.require(whole, "something acknowledged is missing in silence: %d of %d are there", len(there), len(w.acked))
	default:
		w.seen.Epochs++
		w.require(w.missing, "a new epoch, and nothing is missing")
	}
	if newest.Epoch() != w.epoch {
		w.acked, w.refused = nil, map[string]bool{}
		for id, text := range there {
			w.acked = append(w.acked, broadcast.Message{ID: id, Data: []byte(text)})
		}
	}
	w.epoch, w.missing = newest.Epoch(), false
}
