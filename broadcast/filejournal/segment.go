package filejournal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// segment is a file of records, whose sequences follow each other. It ends where the next
// segment begins: records from there on are left over from an append that failed.
type segment struct {
	name  string // of the file
	base  uint64 // the sequence of its first record
	began int64  // when it was created, in milliseconds since 1970

	// Guarded by log.mu.
	live   *live   // its file of state; nil until that has been made
	size   int64   // how much of it may be read
	points []point // a sparse index, in order
}

// point is where a record stands in its segment.
type point struct {
	seq    uint64
	offset int64
}

const (
	segmentMagic  = "fanfare\x01" // the last byte is the version of the format
	segmentHeader = len(segmentMagic) + 8 + 8 + 4
	segmentSuffix = ".log"

	// pointEvery is how many bytes lie between two points of the index.
	pointEvery = 64 << 10
)

// segmentName is the name of the file whose first record has a sequence. Names are in the
// order of the sequences.
func segmentName(base uint64) string { return fmt.Sprintf("%016x%s", base, segmentSuffix) }

func parseSegmentName(name string) (base uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 16, 64)
	return base, err == nil
}

// header returns the first bytes of the segment's file.
func (s *segment) header() []byte {
	b := []byte(segmentMagic)
	b = binary.LittleEndian.AppendUint64(b, s.base)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.began))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readHeader sets began from the header of the segment's file.
func (s *segment) readHeader(f file) error {
	b := make([]byte, segmentHeader)
	if _, err := f.ReadAt(b, 0); err != nil {
		return fmt.Errorf("%w: the header of %s: %w", errDamaged, s.name, err)
	}
	if !bytes.HasPrefix(b, []byte(segmentMagic[:len(segmentMagic)-1])) {
		return fmt.Errorf("%w: %s is no segment", errDamaged, s.name)
	}
	if b[len(segmentMagic)-1] != segmentMagic[len(segmentMagic)-1] {
		return fmt.Errorf("filejournal: %s has version %d of the format, this program reads version %d", s.name, b[len(segmentMagic)-1], segmentMagic[len(segmentMagic)-1])
	}
	s.began = int64(binary.LittleEndian.Uint64(b[len(segmentMagic)+8:]))
	if !bytes.Equal(b, s.header()) {
		return fmt.Errorf("%w: the header of %s", errDamaged, s.name)
	}
	return nil
}

// note adds a point to the index, if the last one is far enough away.
func (s *segment) note(seq uint64, offset int64) {
	if n := len(s.points); n == 0 && offset >= int64(segmentHeader)+pointEvery || n > 0 && offset >= s.points[n-1].offset+pointEvery {
		s.points = append(s.points, point{seq, offset})
	}
}

// start returns the last point that is not after a sequence.
func (s *segment) start(seq uint64) point {
	i := sort.Search(len(s.points), func(i int) bool { return s.points[i].seq > seq })
	if i == 0 {
		return point{s.base, int64(segmentHeader)}
	}
	return s.points[i-1]
}

// open opens the segment's file for reading.
func (s *segment) open(fs files, dir string) (file, error) {
	return fs.OpenFile(filepath.Join(dir, s.name), os.O_RDONLY, 0)
}

// scanner reads the records of a segment one after the other.
type scanner struct {
	f      file
	offset int64 // of the next record
	limit  int64 // where to stop

	buf   []byte // what was read of the file, from
	begin int64  // on
}

// scanChunk is how much a scanner reads at once.
const scanChunk = 256 << 10

// bytes returns n bytes from the offset on, or io.ErrUnexpectedEOF if the limit comes before.
// They are valid until the next call.
func (s *scanner) bytes(n int) ([]byte, error) {
	if s.limit-s.offset < int64(n) {
		return nil, io.ErrUnexpectedEOF
	}
	if from := s.offset - s.begin; from >= 0 && from+int64(n) <= int64(len(s.buf)) {
		return s.buf[from : from+int64(n)], nil
	}
	size := int(min(int64(max(n, scanChunk)), s.limit-s.offset))
	s.buf = slices.Grow(s.buf[:0], size)[:size]
	s.begin = s.offset
	if got, err := s.f.ReadAt(s.buf, s.offset); got < size {
		s.buf = s.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return s.buf[:n], nil
}

// next returns the next record's bytes, which are valid until the next call, and its
// sequence. The error is io.EOF at the limit, errDamaged if there is no record, or one of
// reading; after an error the scanner stays where it is.
func (s *scanner) next() (b []byte, seq uint64, err error) {
	if s.offset >= s.limit {
		return nil, 0, io.EOF
	}
	if b, err = s.bytes(recordHeader); err == nil {
		n := 0
		if n, err = recordLen(b); err == nil {
			b, err = s.bytes(n)
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, 0, errDamaged
	}
	if err != nil {
		return nil, 0, err
	}
	if seq, _, err = checkRecord(b); err != nil {
		return nil, 0, err
	}
	s.offset += int64(len(b))
	return b, seq, nil
}

// skip goes to the first record from a sequence on, without reading what lies before it. It
// stops at damage.
func (s *scanner) skip(seq uint64) error {
	for s.offset < s.limit {
		b, err := s.bytes(recordHeader + bodyHeader)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := recordLen(b)
		if err != nil || binary.LittleEndian.Uint64(b[recordHeader:]) >= seq {
			return nil
		}
		s.offset += int64(n)
	}
	return nil
}

// resync moves past damage to the next record that is whole. It reports whether there is one.
func (s *scanner) resync() (bool, error) {
	for s.offset++; s.offset < s.limit; s.offset++ {
		window, err := s.bytes(int(min(scanChunk, s.limit-s.offset)))
		if err != nil {
			return false, err
		}
		i := bytes.Index(window, []byte(recordMark))
		if i < 0 {
			s.offset += int64(max(0, len(window)-len(recordMark)))
			continue
		}
		s.offset += int64(i)
		at := s.offset
		_, _, err = s.next()
		if s.offset = at; err == nil {
			return true, nil
		}
		if !errors.Is(err, errDamaged) {
			return false, err
		}
	}
	s.offset = s.limit
	return false, nil
}
