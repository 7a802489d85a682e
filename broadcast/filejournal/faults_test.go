package filejournal_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

// faultyDisk is a file system that loses what was not synced when the power fails, and whose
// writes and syncs fail when a test wants it.
type faultyDisk struct {
	filejournal.Disk
	rng *rand.Rand

	mu       sync.Mutex
	files    map[string]*content // by name
	named    map[string]bool     // files whose names were synced
	boots    byte
	room     int              // bytes that can be written; negative: no limit
	failNext map[string]error // by operation: "write", "sync"
}

// content is what a disk has of a file that the test process sees otherwise.
type content struct {
	synced []byte
	writes []write // since then
}

type write struct {
	offset   int64
	data     []byte
	truncate bool // to offset
}

var errDisk = errors.New("input/output error")

func newFaultyDisk(rng *rand.Rand) *faultyDisk {
	return &faultyDisk{rng: rng, files: map[string]*content{}, named: map[string]bool{}, room: -1, failNext: map[string]error{}}
}

func (d *faultyDisk) OpenFile(name string, flag int, perm filejournal.FileMode) (filejournal.File, error) {
	f, err := d.Disk.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil || flag&os.O_TRUNC != 0 {
		d.files[name] = &content{}
	}
	return &faultyFile{File: f, disk: d, name: name}, nil
}

func (d *faultyDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	delete(d.named, name)
	return d.Disk.Remove(name)
}

// Rename keeps what is known of a file, but its new name is not durable yet.
func (d *faultyDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[to], d.named[to] = d.files[from], false
	delete(d.files, from)
	return d.Disk.Rename(from, to)
}

func (d *faultyDisk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for file := range d.files {
		d.named[file] = true
	}
	return d.Disk.SyncDir(name)
}

func (d *faultyDisk) Boot() [16]byte { return [16]byte{d.boots + 1} }

// failing returns the error that an operation was to return next.
func (d *faultyDisk) failing(what string) error {
	err := d.failNext[what]
	delete(d.failNext, what)
	return err
}

// cutPower leaves of each file what was synced, and some of what was not.
func (d *faultyDisk) cutPower() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.boots++
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := d.files[name]
		if !d.named[name] && d.rng.IntN(2) == 0 {
			delete(d.files, name)
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			continue
		}
		b := slices.Clone(c.synced)
		for _, w := range c.writes {
			switch {
			case d.rng.IntN(3) == 0: // lost
			case w.truncate:
				b = resized(b, int(w.offset))
			default:
				data := w.data
				if d.rng.IntN(3) == 0 {
					data = data[:d.rng.IntN(len(data)+1)] // torn
				}
				b = resized(b, max(len(b), int(w.offset)+len(data)))
				copy(b[w.offset:], data)
			}
		}
		if err := writeOver(name, b); err != nil {
			return err
		}
		d.files[name] = &content{synced: b}
	}
	return nil
}

// writeOver replaces the content of a file, which stays the same file.
func writeOver(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
}

func resized(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

type faultyFile struct {
	filejournal.File
	disk *faultyDisk
	name string
}

func (f *faultyFile) note(w write) {
	if c := f.disk.files[f.name]; c != nil {
		c.writes = append(c.writes, w)
	}
}

func (f *faultyFile) WriteAt(b []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	var fails error
	n := len(b)
	if filepath.Ext(f.name) == ".log" { // what is noted beside the log needs no more room
		fails = f.disk.failing("write")
		if room := f.disk.room; fails == nil && room >= 0 && room < n {
			fails = errDisk
		}
	}
	if fails != nil {
		n = f.disk.rng.IntN(n + 1)
	}
	if f.disk.room >= 0 {
		f.disk.room = max(0, f.disk.room-n)
	}
	f.note(write{offset: offset, data: slices.Clone(b[:n])})
	if _, err := f.File.WriteAt(b[:n], offset); err != nil {
		return 0, err
	}
	return n, fails
}

func (f *faultyFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.note(write{offset: size, truncate: true})
	return f.File.Truncate(size)
}

func (f *faultyFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.failing("sync"); err != nil {
		return err
	}
	b, err := os.ReadFile(f.name)
	if err != nil {
		return err
	}
	if c := f.disk.files[f.name]; c != nil {
		c.synced, c.writes = b, nil
	}
	return nil
}
