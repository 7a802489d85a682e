package natsjournal

import (
	"errors"
	"slices"
	"time"
)

// knowledge is what this node has learned of the stream. It shows whether the stream
// has lost entries since.
type knowledge struct {
	epoch      uint64        // 0: nothing yet
	subject    string        // of the stream in that epoch; entries are published to it
	newest     uint64        // the highest sequence that the engine has acknowledged, delivered or reported
	duplicates time.Duration // how long the engine recognises an entry that it already has

	left []uint64 // earlier epochs that this node has known or that the stream names, at most maxLeft of each

	// The newest entry that a Tail of this node has read.
	tailed   uint64    // its sequence
	tailedAt time.Time // when the engine stored it

	unusable  error // why the stream was unusable at the last look; nil if it was not
	witnessed bool  // this node has entered by a witness, which has to be deleted before the stream is used

	// retired is set from the end of the last Tail to the beginning of another one. Meanwhile
	// an Append renews the witness.
	retired  bool
	attested uint64 // the newest entry that this node's witness knows of; 0 if there is no such witness
}

// maxLeft is how many earlier epochs a node remembers.
const maxLeft = 64

// wentBack reports whether the stream is in an epoch that this node has known to end: a backup
// has been restored, and IDs that follow it have been given.
func (k knowledge) wentBack(s streamState) bool {
	return s.epoch != k.epoch && slices.Contains(k.left, s.epoch)
}

// known returns what this node has learned so far.
func (j *Journal) known() knowledge {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.knowledge
}

// learnStream records what the engine reports of the stream.
func (j *Journal) learnStream(s streamState) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := &j.knowledge
	if s.epoch != k.epoch {
		left := k.left
		if k.epoch != 0 {
			left = append(slices.Clip(left), k.epoch) // known has given copies away
			left = left[max(0, len(left)-maxLeft):]
		}
		for _, epoch := range s.left {
			if !slices.Contains(left, epoch) {
				left = append(slices.Clip(left), epoch)
			}
		}
		left = left[max(0, len(left)-2*maxLeft):]
		*k = knowledge{epoch: s.epoch, subject: s.subject, left: left, witnessed: k.witnessed, retired: k.retired}
	}
	k.newest = max(k.newest, s.newest)
	k.duplicates = s.duplicates
}

// learnUsable records whether the stream can be used, by what came of looking at it.
func (j *Journal) learnUsable(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.looked = time.Now()
	switch {
	case err == nil:
		j.knowledge.unusable = nil
	case errors.Is(err, ErrUnusable):
		j.knowledge.unusable = err
	}
}

// learnEntry records an entry of an epoch. storedAt is when the engine stored it; zero
// if that is not known, as for an entry that was only acknowledged.
func (j *Journal) learnEntry(epoch, seq uint64, storedAt time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !storedAt.IsZero() {
		j.sightingsOf(epoch).add(seq, storedAt)
	}
	if epoch != j.knowledge.epoch {
		return
	}
	j.knowledge.newest = max(j.knowledge.newest, seq)
	if !storedAt.IsZero() && seq >= j.knowledge.tailed {
		j.knowledge.tailed, j.knowledge.tailedAt = seq, storedAt
	}
}

func (j *Journal) setWitnessed(witnessed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.knowledge.witnessed = witnessed
}

// retire notes that this node's last Tail has ended. It reports whether the node has used the
// stream, and still has no Tail.
func (j *Journal) retire() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.knowledge.retired = j.tails == 0 && j.knowledge.epoch != 0
	j.knowledge.attested = 0
	return j.knowledge.retired
}

// mustAttest reports whether this node has retired and has seen more than its witness.
func (j *Journal) mustAttest() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := j.knowledge
	return k.retired && (k.attested == 0 || k.attested < k.newest)
}

func (j *Journal) setAttested(newest uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.knowledge.attested = newest
}
