package filejournal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// state is what a journal notes beside its log, to find out at its next start whether
// something is missing that was acknowledged.
type state struct {
	epoch uint64
	seq   uint64   // the newest that was acknowledged
	clean bool     // the journal was closed, and has synced everything
	lazy  bool     // what it acknowledged may not have been synced
	boot  [16]byte // which start of the machine wrote this; zero if the system does not say
	inode uint64   // of the file itself: a copy has another. Zero if the system does not say

	// past are the epochs before, the last one first. Entries of each have kept their sequences
	// up to one; 0: none.
	past [maxPast]pastEpoch
}

type pastEpoch struct{ epoch, survived uint64 }

const maxPast = 4

// stateFile has two slots for what is synced at once and two for what is not, and writes the
// two in turn. So a write that was cut off leaves another one, and one that was synced is
// always there.
type stateFile struct {
	file
	count uint64   // writes so far
	last  [2]int64 // the slot of each pair that was written last
}

const (
	stateName  = "state"
	stateMagic = "fanfareS\x02" // the last byte is the version of the format
	stateSlot  = 512            // bytes from one slot to the next: each has a block of a disk to itself

	stateClean = 1
	stateLazy  = 2
)

func openState(fs files, dir string) (*stateFile, error) {
	f, err := fs.OpenFile(filepath.Join(dir, stateName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &stateFile{file: f}, nil
}

// read returns the state that was written last. It reports whether there is one.
func (f *stateFile) read() (s state, ok bool) {
	b := make([]byte, 4*stateSlot)
	n, _ := f.ReadAt(b, 0)
	var newest [2]uint64
	for slot := range int64(4) {
		if n < int(slot)*stateSlot+stateSize {
			break
		}
		t, count, valid := parseState(b[slot*stateSlot:][:stateSize])
		if pair := slot / 2; valid && count > newest[pair] {
			newest[pair], f.last[pair] = count, slot%2
		}
		if valid && count > f.count {
			s, f.count, ok = t, count, true
		}
	}
	return s, ok
}

// note writes a state, which the system may lose if the machine goes down.
func (f *stateFile) note(s state) error { return f.write(s, 1) }

// save writes a state durably.
func (f *stateFile) save(s state) error { return errors.Join(f.write(s, 0), f.Sync()) }

func (f *stateFile) write(s state, pair int64) error {
	f.count++
	f.last[pair] = 1 - f.last[pair]
	_, err := f.WriteAt(s.append(nil, f.count), (2*pair+f.last[pair])*stateSlot)
	return err
}

const stateSize = len(stateMagic) + 8 + 8 + 8 + 1 + 16 + 8 + maxPast*16 + 4

func (s *state) append(b []byte, count uint64) []byte {
	flags := byte(0)
	if s.clean {
		flags |= stateClean
	}
	if s.lazy {
		flags |= stateLazy
	}
	start := len(b)
	b = append(b, stateMagic...)
	b = binary.LittleEndian.AppendUint64(b, count)
	b = binary.LittleEndian.AppendUint64(b, s.epoch)
	b = binary.LittleEndian.AppendUint64(b, s.seq)
	b = append(b, flags)
	b = append(b, s.boot[:]...)
	b = binary.LittleEndian.AppendUint64(b, s.inode)
	for _, p := range s.past {
		b = binary.LittleEndian.AppendUint64(b, p.epoch)
		b = binary.LittleEndian.AppendUint64(b, p.survived)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parseState(b []byte) (s state, count uint64, ok bool) {
	sum := len(b) - 4
	if string(b[:len(stateMagic)]) != stateMagic || binary.LittleEndian.Uint32(b[sum:]) != crc32.Checksum(b[:sum], castagnoli) {
		return state{}, 0, false
	}
	b = b[len(stateMagic):]
	count = binary.LittleEndian.Uint64(b)
	s.epoch = binary.LittleEndian.Uint64(b[8:])
	s.seq = binary.LittleEndian.Uint64(b[16:])
	s.clean, s.lazy = b[24]&stateClean != 0, b[24]&stateLazy != 0
	copy(s.boot[:], b[25:])
	s.inode = binary.LittleEndian.Uint64(b[41:])
	for i := range s.past {
		s.past[i].epoch = binary.LittleEndian.Uint64(b[49+16*i:])
		s.past[i].survived = binary.LittleEndian.Uint64(b[57+16*i:])
	}
	return s, count, s.epoch > 1
}

// lost says why something may be missing that was acknowledged, if the log now ends at a
// sequence and runs on this start of the machine; "" if nothing is.
func (s *state) lost(newest uint64, boot [16]byte, inode uint64) string {
	switch {
	case newest < s.seq:
		return "the log ends before what was acknowledged"
	case s.inode != inode:
		return "the folder is a copy of the one that was written"
	case s.lazy && !s.clean && (boot == [16]byte{} || s.boot != boot):
		return "the machine went down before the newest messages were synced"
	}
	return ""
}

// leave notes that the epoch is over, of which entries up to a sequence are still there.
func (s *state) leave(newest uint64) (past [maxPast]pastEpoch) {
	past[0] = pastEpoch{s.epoch, newest}
	copy(past[1:], s.past[:])
	for i := range past {
		past[i].survived = min(past[i].survived, newest)
	}
	return past
}

// newEpoch draws an epoch; 0 and 1 are reserved.
func newEpoch() uint64 {
	for {
		if epoch := rand.Uint64(); epoch > 1 {
			return epoch
		}
	}
}
