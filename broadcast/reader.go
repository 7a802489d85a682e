package broadcast

import (
	"context"
	"sync/atomic"
)

// read is a read that readers share. It ends when none of them is left.
type read struct {
	cancel context.CancelFunc // set when the read is made
	left   int                // readers that have a subscription; guarded by Hub.mu
}

// reader is a subscription that the journal is read for. The goroutine that reads owns it, but
// for sub.
type reader struct {
	sub     *subscription   // nil if it does not wait any more; guarded by Hub.mu
	read    *read           // set when the reader is made
	topics  map[string]bool // the names of their topics
	after   ID              // the position, which all that share a read have in one epoch
	end     atomic.Uint64   // the subscription's; Finish sets it
	history *history        // what follows it
	lost    bool            // some of it is not in the journal any more, or it is too much
	needed  uint64          // up to where the rings have not what the history must have
	full    uint64          // the history ends at it; forever if it has all that was read
}

// forget lets a reader go on without its subscription, which does not wait for it any more.
// The caller holds Hub.mu.
func (r *reader) forget() {
	if r == nil || r.sub == nil {
		return
	}
	r.leave()
	r.history.drop()
}

// leave parts a reader from its subscription. The last one ends the read. The caller holds Hub.mu.
func (r *reader) leave() {
	r.sub.reader, r.sub = nil, nil
	if r.read.left--; r.read.left == 0 {
		r.read.cancel()
	}
}

// endAt lets the history end at a sequence: it has no room for what follows, or the journal lacks
// that. From what is needed on the rings have it.
func (r *reader) endAt(seq uint64) {
	if seq >= r.needed {
		r.full = seq
		return
	}
	r.lost = true
	r.history.drop()
}
