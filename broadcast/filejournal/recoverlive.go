package filejournal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// findLives finds the files of state. It finishes what a crash has interrupted: segments that state
// does not need any more are removed, and files that nobody needs.
func (l *log) findLives(entries []fs.DirEntry) error {
	needed := make(map[string]bool)
	if err := l.findRemoved(entries); err != nil {
		return err
	}
	if l.removed != nil {
		needed[l.removed.name] = true
		l.newest = max(l.newest, l.removed.to)
		for len(l.segments) > 0 && l.segments[0].base <= l.removed.to {
			if err := l.remove(l.segments[0].name); err != nil {
				return err
			}
			l.segments = l.segments[1:]
		}
	}
	for i, s := range l.segments[:max(0, len(l.segments)-1)] {
		v, err := readLive(l.fs, l.dir, segmentLiveName(s.base))
		switch {
		case err == nil && v.from == s.base && v.to == l.segments[i+1].base-1:
			s.live, needed[v.name] = v, true
		case err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, os.ErrNotExist):
			return err
		}
	}
	for _, e := range entries {
		_, ofSegment := parseLiveName(e.Name(), segmentLiveSuffix)
		_, ofRemoved := parseLiveName(e.Name(), removedLiveSuffix)
		if (ofSegment || ofRemoved || e.Name() == liveTemporary) && !needed[e.Name()] {
			if err := l.remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// findRemoved finds the file of state of the removed segments: that which stands for most of them.
func (l *log) findRemoved(entries []fs.DirEntry) error {
	for _, e := range entries {
		to, ok := parseLiveName(e.Name(), removedLiveSuffix)
		if !ok {
			continue
		}
		v, err := readLive(l.fs, l.dir, e.Name())
		switch {
		case errors.Is(err, errDamaged) || err == nil && v.to != to:
			l.logger.Error("filejournal: a file of state is damaged: what it had is missing, and reported as such", "dir", l.dir, "file", e.Name())
		case err != nil:
			return err
		case l.removed == nil || v.to > l.removed.to:
			l.removed = v
		}
	}
	return nil
}

func (l *log) remove(name string) error {
	err := l.fs.Remove(filepath.Join(l.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
