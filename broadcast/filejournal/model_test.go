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
//	no ID is given twice;
//	each Key has the value that was acknowledged last, or a newer one, although segments are
//	removed, or a gap is yielded.
var (
	modelSeed = flag.Uint64("model.seed", 1, "seed of the first random run; each run has the next")
	modelRuns = flag.Int("model.runs", 60, "how many runs")
)

func TestModel(t *testing.T) {
	var seen tally
	for i := range *modelRuns {
		seed := *modelSeed + uint64(i)
		w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), seen: &seen, content: map[broadcast.ID]string{}, state: map[string]broadcast.Message{}, dir: t.TempDir()}
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
		require.NotZero(t, seen.Carried)
	}
}

type tally struct {
	Appended, Refused, Unsure int // messages
	Kills, PowerCuts, Cuts    int
	Epochs                    int // new ones
	Removals, Carried         int // of segments; values that only a file of state had at a start
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
	state   map[string]broadcast.Message // of each Key what was acknowledged last
	unsure  map[string]bool              // Keys whose removal may have been appended since
	floor   uint64                       // entries after it have not been removed
	holes   bool                         // a power cut has left some of what was not synced
	missing bool                         // something acknowledged may be missing at the next start
}

func (w *world) require(ok bool, format string, args ...any) {
	w.t.Helper()
	require.True(w.t, ok, "-model.seed=%d -model.runs=1: %s", w.seed, fmt.Sprintf(format, args...))
}

func (w *world) step() {
	switch what := w.rng.IntN(100); {
	case what < 66:
		w.append()
	case what < 70:
		w.seen.Removals++
		_, newest, err := w.journal.Bounds(w.t.Context())
		w.require(err == nil, "Bounds: %v", err)
		w.floor = newest.Seq()
		_ = filejournal.RemoveSegments(w.journal) // the disk may fail
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
		if w.rng.IntN(2) == 0 {
			ms[i].Key, ms[i].Removed = fmt.Sprint("k", w.rng.IntN(6)), w.rng.IntN(4) == 0
		}
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
			if m.Key != "" {
				w.state[m.Key], w.unsure[m.Key] = m, false
			}
		case errors.Is(err, broadcast.ErrNotPublished):
			w.seen.Refused++
			w.refused[text] = true
		default:
			w.seen.Unsure++
			w.unsure[m.Key] = w.unsure[m.Key] || m.Removed
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
	oldest, newest, err := w.journal.Bounds(w.t.Context())
	w.require(err == nil, "Bounds: %v", err)
	w.require(oldest.Seq() <= w.floor+1, "the oldest is %v, %d were removed", oldest, w.floor)
	there, reported := map[broadcast.ID]string{}, map[uint64]bool{}
	if newest.Seq() >= oldest.Seq() {
		last := oldest.Seq() - 1
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
		whole = whole && (m.ID.Seq() < oldest.Seq() || there[m.ID] == string(m.Data) || reported[m.ID.Seq()])
	}
	w.checkState(oldest, newest)
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

// checkState checks what a reader has of each Key that begins at the beginning.
func (w *world) checkState(oldest, newest broadcast.ID) {
	got, gap := map[string]broadcast.Message{}, uint64(0)
	for last := uint64(0); last < newest.Seq(); {
		for m, err := range w.journal.Tail(w.t.Context(), broadcast.MakeID(newest.Epoch(), last)) {
			switch {
			case errors.Is(err, broadcast.ErrGap):
				gap = m.ID.Seq()
				clear(got)
			case errors.Is(err, broadcast.ErrCompacted):
			default:
				w.require(err == nil, "Tail: %v", err)
				w.require(m.ID.Seq() == last+1, "%v follows %d", m.ID, last)
				w.require(m.Topic == "" || !w.refused[string(m.Data)], "%q is there, and was surely not appended", m.Data)
				got[m.Key] = m
			}
			if last = m.ID.Seq(); last == newest.Seq() {
				break
			}
		}
	}
	w.require(gap == 0 || w.missing || w.holes, "a gap, and nothing is missing")
	for key, m := range w.state {
		is, ok := got[key]
		switch {
		case m.ID.Seq() <= gap, newest.Epoch() != w.epoch && w.missing: // it may lack that
		case ok && is.ID.Seq() == m.ID.Seq():
			w.require(string(is.Data) == string(m.Data), "%s is %q, not %q", key, is.Data, m.Data)
		case ok:
			w.require(is.ID.Seq() > m.ID.Seq(), "%s is %v, and was %v", key, is.ID, m.ID)
		default:
			w.require(m.Removed || w.unsure[key], "%s is missing, which was set in %v", key, m.ID)
		}
		if ok && is.ID.Seq() < oldest.Seq() {
			w.seen.Carried++
		}
	}
	delete(got, "")
	w.state, w.unsure = got, map[string]bool{}
}
