package broadcast

import "hash/maphash"

// tombstones remember the newest sequence of topics that were forgotten, so that a client
// that comes back to one of them gets a gap only if it may have missed something. The
// table is bounded: when two topics collide, the replaced one is folded into others.
type tombstones struct {
	seed   maphash.Seed
	slots  []tombstone // made when the first topic is forgotten
	others uint64      // an upper bound of newest for all topics without a slot
}

type tombstone struct {
	name   uint64 // hash of the topic's name; 0: the slot is empty
	newest uint64 // the highest sequence that the topic had
}

const tombstoneSlots = 4096

// slot returns the slot for a topic, which may be another's, and the hash of its name.
func (s *tombstones) slot(name string) (*tombstone, uint64) {
	if s.slots == nil {
		s.seed = maphash.MakeSeed()
		s.slots = make([]tombstone, tombstoneSlots)
	}
	hash := maphash.String(s.seed, name) | 1
	return &s.slots[hash>>1%tombstoneSlots], hash
}

func (s *tombstones) add(name string, newest uint64) {
	slot, hash := s.slot(name)
	if slot.name != hash {
		s.others = max(s.others, slot.newest)
	}
	*slot = tombstone{hash, newest}
}

// evicted returns the highest sequence that a topic may have lost.
func (s *tombstones) evicted(name string) uint64 {
	if s.slots == nil {
		return s.others
	}
	if slot, hash := s.slot(name); slot.name == hash {
		return slot.newest
	}
	return s.others
}

// raise notes that all topics may have lost messages up to seq.
func (s *tombstones) raise(seq uint64) {
	s.others = max(s.others, seq)
	for i := range s.slots {
		s.slots[i].newest = max(s.slots[i].newest, seq)
	}
}
