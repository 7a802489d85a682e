package filejournal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// live is a file of what state needs of a part of the log: of each Key the newest message, of each
// topic the newest event with First and that with End, and up to where events of it are missing. Its
// records are those of the log, in order.
//
// Each segment but the last has one beside it, and there is one for all segments that were
// removed, in which no Key is removed.
type live struct {
	name   string
	from   uint64 // the first and
	to     uint64 // the last sequence of that part
	lostTo uint64 // up to here anything may be missing
	size   int64  // of the file
	lost   uint64 // how many of its records have flagLost
}

const (
	liveMagic  = "fanfareL\x01" // the last byte is the version of the format
	liveHeader = len(liveMagic) + 5*8 + 4

	segmentLiveSuffix = ".state" // the name is that of the segment
	removedLiveSuffix = ".kept"  // the name is the last sequence that was removed
	liveTemporary     = "state.tmp"
)

func segmentLiveName(base uint64) string { return fmt.Sprintf("%016x%s", base, segmentLiveSuffix) }
func removedLiveName(to uint64) string   { return fmt.Sprintf("%016x%s", to, removedLiveSuffix) }

// parseLiveName returns the sequence in the name of a file with a suffix.
func parseLiveName(name, suffix string) (seq uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 16, 64)
	return seq, err == nil
}

func (v *live) header() []byte {
	b := []byte(liveMagic)
	for _, n := range []uint64{v.from, v.to, v.lostTo, uint64(v.size), v.lost} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readLive reads the header of a file. The error is errDamaged if it is not what was written, or if
// the file is not as long.
func readLive(fs files, dir, name string) (*live, error) {
	f, err := fs.OpenFile(filepath.Join(dir, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, liveHeader)
	if _, err := f.ReadAt(b, 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = errDamaged
		}
		return nil, err
	}
	n := func(i int) uint64 { return binary.LittleEndian.Uint64(b[len(liveMagic)+8*i:]) }
	v := &live{name: name, from: n(0), to: n(1), lostTo: n(2), size: int64(n(3)), lost: n(4)}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case string(v.header()) != string(b), info.Size() != v.size:
		return nil, errDamaged
	}
	return v, nil
}

// open returns a scanner of the records. The caller closes its file.
func (v *live) open(fs files, dir string) (*scanner, error) {
	f, err := fs.OpenFile(filepath.Join(dir, v.name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return &scanner{f: f, offset: int64(liveHeader), limit: v.size}, nil
}

// liveWriter writes the records of a file, or only counts them.
type liveWriter struct {
	live
	f       file // nil: nothing is written
	buf     []byte
	written int64
	skip    int64 // how many bytes of records are left out at the beginning
}

// add adds a record.
func (w *liveWriter) add(b []byte, seq uint64, lost bool) error {
	if w.skip > 0 {
		w.skip -= int64(len(b))
		w.lostTo = max(w.lostTo, seq)
		return nil
	}
	w.size += int64(len(b))
	if lost {
		w.live.lost++
	}
	if w.f == nil {
		return nil
	}
	if w.buf = append(w.buf, b...); len(w.buf) < scanChunk {
		return nil
	}
	return w.flush()
}

func (w *liveWriter) addLost(seq uint64, topic string, time int64) error {
	r := record{seq: seq, time: time, lost: true}
	r.msg.Topic = topic
	b, err := appendRecord(nil, &r)
	if err != nil {
		return err
	}
	return w.add(b, seq, true)
}

func (w *liveWriter) flush() error {
	_, err := w.f.WriteAt(w.buf, w.written)
	w.written += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

// writeLive makes a file of the records that fill adds. Once it has its name all of it is on the
// disk.
func writeLive(fs files, dir string, v live, skip int64, fill func(*liveWriter) error) (*live, error) {
	temporary := filepath.Join(dir, liveTemporary)
	f, err := fs.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &liveWriter{live: v, f: f, written: int64(liveHeader), skip: skip}
	w.size, w.live.lost = int64(liveHeader), 0
	if err = fill(w); err == nil {
		err = w.flush()
	}
	if err == nil {
		_, err = f.WriteAt(w.header(), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(temporary, filepath.Join(dir, v.name))
	}
	if err == nil {
		err = fs.SyncDir(dir)
	}
	if err != nil {
		return nil, err
	}
	return &w.live, nil
}
