package redisjournal

import (
	"slices"
	"strconv"
	"strings"
)

// knowledge is what this node has learned of the stream. It shows whether the stream has
// lost entries since, or is another one.
type knowledge struct {
	epoch  uint64 // 0: nothing yet
	newest uint64 // the highest sequence that the engine has given or reported in that epoch
	floor  uint64 // the sequence before the oldest entry that was kept at the last report

	// The newest entry that a Tail of this node has read.
	tailed    uint64
	tailedTag string // empty: it has none

	// left are the epochs that the stream has left last. It must not return to them: clients
	// that have got a gap would get the same entries again.
	left []uint64

	// engine is the run_id of the Redis that Client has reached last.
	engine string
}

// maxLeft is how many epochs are remembered that the stream has left. Somebody may restore a
// copy of any age.
const maxLeft = 1000

// args returns the arguments of open.lua that say what this node knows.
func (k *knowledge) args() []any {
	epoch := ""
	if k.epoch != 0 {
		epoch = formatEpoch(k.epoch)
	}
	left := new(strings.Builder)
	for _, e := range k.left {
		if left.Len() == 0 {
			left.WriteByte(',')
		}
		left.WriteString(formatEpoch(e))
		left.WriteByte(',')
	}
	return []any{epoch, k.newest, k.tailed, k.tailedTag, left.String()}
}

// enter records the epoch in which the engine has answered. It reports whether that is the
// epoch which is known from then on; a late answer is from one that was left.
func (k *knowledge) enter(epoch uint64) bool {
	switch {
	case epoch == k.epoch:
		return true
	case slices.Contains(k.left, epoch):
		return false
	case k.epoch != 0:
		k.left = append(k.left, k.epoch)
		k.left = k.left[max(0, len(k.left)-maxLeft):]
	}
	*k = knowledge{epoch: epoch, left: k.left, engine: k.engine}
	return true
}

// learnNewest records the highest sequence of an epoch.
func (j *Journal) learnNewest(epoch, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.knowledge.enter(epoch) {
		j.knowledge.newest = max(j.knowledge.newest, seq)
	}
}

// learnEntry records the entry that a Tail has read last.
func (j *Journal) learnEntry(epoch, seq uint64, tag string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := &j.knowledge
	if k.epoch != epoch {
		return
	}
	k.newest = max(k.newest, seq)
	if seq >= k.tailed {
		k.tailed, k.tailedTag = seq, tag
	}
}

// learnStream records what the engine reports of the stream. It reports whether entries have
// been removed since the last report although fewer are kept than this node keeps.
func (j *Journal) learnStream(s streamState) (removed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := &j.knowledge
	known := k.epoch == s.newest.Epoch()
	if !k.enter(s.newest.Epoch()) {
		return false
	}
	floor, newest := s.floor.Seq(), s.newest.Seq()
	removed = known && floor > k.floor && newest-floor < uint64(j.maxEntries())
	k.newest, k.floor = max(k.newest, newest), max(k.floor, floor)
	if removed {
		removed, j.removalLogged = !j.removalLogged, true
	}
	return removed
}

// learnEngine records which Redis Client has reached. If that is another one than before,
// the tails that read from the other one are to find out.
func (j *Journal) learnEngine(runID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.knowledge.engine == runID {
		return
	}
	j.knowledge.engine = runID
	for t := range j.tails {
		t.nudge()
	}
}

func formatEpoch(epoch uint64) string { return strconv.FormatUint(epoch, 16) }
