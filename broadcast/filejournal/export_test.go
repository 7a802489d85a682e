package filejournal

import (
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
	j.opening.fs = fs
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
