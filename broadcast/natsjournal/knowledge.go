package natsjournal

import "time"

// knowledge is what this node has learned of the stream. It shows whether the stream
// has lost entries since.
type knowledge struct {
	epoch   uint64 // 0: nothing yet
	subject string // of the stream in that epoch; entries are published to it
	newest  uint64 // the highest sequence that the engine has acknowledged, delivered or reported

	// The newest entry that a Tail of this node has read.
	tailed   uint64    // its sequence
	tailedAt time.Time // when the engine stored it
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
	if s.epoch != j.knowledge.epoch {
		j.knowledge = knowledge{epoch: s.epoch, subject: s.subject}
	}
	j.knowledge.newest = max(j.knowledge.newest, s.newest)
}

// learnEntry records an entry of an epoch. storedAt is when the engine stored it; zero
// if that is not known, as for an entry that was only acknowledged.
func (j *Journal) learnEntry(epoch, seq uint64, storedAt time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if epoch != j.knowledge.epoch {
		return
	}
	j.knowledge.newest = max(j.knowledge.newest, seq)
	if !storedAt.IsZero() && seq >= j.knowledge.tailed {
		j.knowledge.tailed, j.knowledge.tailedAt = seq, storedAt
	}
}
