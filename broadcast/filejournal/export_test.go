package filejournal

import (
	"context"
	"io/fs"

	"github.com/fanfare-go/fanfare/broadcast"
)

// What the tests in package filejournal_test need from the inside.
type (
	Files    = files
	File     = file
	Disk     = disk
	FileMode = fs.FileMode
)

// With puts another file system below a Journal that was not used yet.
func With(j *Journal, fs Files) *Journal {
	j.opening.fs, j.opening.inline = fs, true
	return j
}

// Kill leaves the folder as it is when the process dies.
func Kill(j *Journal) {
	if l := j.opening.log; l != nil && !l.closed {
		l.end(errClosed)
		l.abandon()
	}
	j.opening.closed = true
}

// Record is a record with its fields exported.
type Record struct {
	Seq     uint64
	Time    int64
	Message broadcast.Message
}

func (r Record) Bytes() ([]byte, error) {
	return appendRecord(nil, &record{seq: r.Seq, time: r.Time, msg: r.Message})
}

func ParseRecord(b []byte) (Record, error) {
	r, err := parseRecord(b)
	return Record{r.seq, r.time, r.msg}, err
}

// Sealed returns a copy of bytes with the mark, the length and the checksum of a record.
func Sealed(b []byte) []byte {
	sealed := append(make([]byte, 0, len(b)+recordHeader+bodyHeader), b...)
	for len(sealed) < recordHeader+bodyHeader {
		sealed = append(sealed, 0)
	}
	copy(sealed, recordMark)
	sealRecord(sealed)
	return sealed
}

// RemoveSegments removes all segments but the last, as if they were too old.
func RemoveSegments(j *Journal) error {
	l, err := j.open(context.Background())
	if err != nil {
		return err
	}
	if err := l.turn.claim(context.Background()); err != nil {
		return err
	}
	defer l.turn.release()
	if err := l.roll(); err != nil {
		return err
	}
	l.tidier.Wait()
	if err := l.makeStates(); err != nil {
		return err
	}
	for len(l.segments) > 1 {
		if err := l.drop(); err != nil {
			return err
		}
	}
	return nil
}

// RollWhileTidying begins the next segment when the tidier has made all files of state, and has not
// yet looked whether there is too much.
func RollWhileTidying(j *Journal) error {
	l, err := j.open(context.Background())
	if err != nil {
		return err
	}
	if err := l.turn.claim(context.Background()); err != nil {
		return err
	}
	defer l.turn.release()
	l.tidier.Wait()
	if err := l.makeStates(); err != nil {
		return err
	}
	if err := l.roll(); err != nil {
		return err
	}
	more, err := l.dropOldest()
	if more && err == nil {
		l.tidyUp()
	}
	return err
}

// Tidy waits until the files of state have been made.
func Tidy(j *Journal) error {
	l, err := j.open(context.Background())
	if err != nil {
		return err
	}
	l.tidier.Wait()
	return l.makeStates()
}
