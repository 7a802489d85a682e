package broadcast

// entryList is a list of entries in sequence, linked through them.
type entryList struct{ oldest, newest *entry }

func (l *entryList) append(e *entry) {
	if e.older = l.newest; e.older == nil {
		l.oldest = e
	} else {
		e.older.newer = e
	}
	l.newest = e
}

func (l *entryList) remove(e *entry) {
	if e.older == nil {
		l.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
	if e.newer == nil {
		l.newest = e.older
	} else {
		e.newer.older = e.older
	}
	e.older, e.newer = nil, nil
}
