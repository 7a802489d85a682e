package filejournal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Journal is a [broadcast.Journal] in files on this machine, for one process at a time. Set
// its fields before the first use and do not change them afterwards; Dir is required. Close
// it when the Hub has been closed. A Journal must not be copied after its first use.
type Journal struct {
	// Dir is the folder of the log, which is created if it does not exist. Nothing else
	// belongs there. It is on a file system that keeps what has been synced, and whose locks
	// hold between processes.
	Dir string

	// MaxBytes is how much the log may have on the disk; the oldest messages are removed,
	// about a sixteenth of it at a time, but for state, which has at most half of it. While old
	// messages are being removed it may have a quarter more. If zero, 1 GiB; if negative, there is
	// no limit.
	MaxBytes int64

	// MaxAge is how long a message is kept at least. It is removed when the next one is
	// appended after about a sixteenth more, unless it is state. If zero or negative, age is not limited.
	MaxAge time.Duration

	// SyncEvery trades durability for speed. If zero, a message is synced to the disk before
	// Publish returns and before anybody gets it, together with those that are published at the
	// same time: nothing is lost that was acknowledged, not even if the power fails. If
	// positive, messages are synced so long after they were written; if negative, by the
	// operating system. Then nothing is lost if the process dies, but what was not synced is if
	// the machine does. The log has a new epoch after that, which every client gets as a gap.
	SyncEvery time.Duration

	// Logger gets damage that was found, and what the log did about it. If nil,
	// slog.Default().
	Logger *slog.Logger

	opening opening
}

// ErrInUse says that another Journal uses the folder, in this process or in another one.
var ErrInUse = errors.New("filejournal: the folder is in use")

const (
	defaultMaxBytes = 1 << 30

	// lockWait is how long a call waits for the folder while another process ends.
	lockWait  = 5 * time.Second
	lockPause = 20 * time.Millisecond
)

var _ broadcast.Journal = (*Journal)(nil)

func (j *Journal) logger() *slog.Logger { return cmp.Or(j.Logger, slog.Default()) }

func (j *Journal) maxBytes() int64 { return cmp.Or(j.MaxBytes, defaultMaxBytes) }

func (j *Journal) maxAge() time.Duration { return max(j.MaxAge, 0) }

// opening is the log of a Journal, which its first use opens.
type opening struct {
	turn   turn
	fs     files // nil: the disk
	inline bool  // see log.inline
	log    *log  // nil until it is open. It is owned by who has the turn
	closed bool  // owned by who has the turn
}

// open returns the log. The first call opens it, and waits a moment for the lock.
func (j *Journal) open(ctx context.Context) (*log, error) {
	if j.Dir == "" {
		return nil, errors.New("filejournal: Journal.Dir is empty: it names the folder of the log")
	}
	if err := j.opening.turn.claim(ctx); err != nil {
		return nil, err
	}
	defer j.opening.turn.release()
	switch {
	case j.opening.closed:
		return nil, errClosed
	case j.opening.log != nil && !j.opening.log.hasEnded():
		return j.opening.log, nil
	}
	for began := time.Now(); ; {
		l, err := openLog(j, cmp.Or[files](j.opening.fs, disk{}))
		switch {
		case err == nil:
			j.opening.log = l
			return l, nil
		case !errors.Is(err, ErrInUse):
			return nil, fmt.Errorf("filejournal: opening the log in %s: %w", j.Dir, err)
		case time.Since(began) > lockWait:
			return nil, fmt.Errorf("%w: %s by %s", ErrInUse, j.Dir, holder(j.Dir))
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s by %s: %w", ErrInUse, j.Dir, holder(j.Dir), context.Cause(ctx))
		}
	}
}

// holder says which process uses a folder.
func holder(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return "another process"
	}
	return "process " + strings.TrimSpace(string(b))
}

// Append adds messages. It returns when they are on the disk, unless SyncEvery says otherwise.
func (j *Journal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	l, err := j.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	return l.append(ctx, ms)
}

// Bounds returns the IDs of the oldest message that is kept and of the newest that there ever
// was.
func (j *Journal) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if err := ctx.Err(); err != nil {
		return oldest, newest, err
	}
	l, err := j.open(ctx)
	if err != nil {
		return oldest, newest, err
	}
	if err := l.check(ctx); err != nil {
		return oldest, newest, err
	}
	floor, last, epoch := l.bounds()
	return broadcast.MakeID(epoch, floor+1), broadcast.MakeID(epoch, last), nil
}

// Close syncs what was written and releases the folder. Tails end, and later calls return an
// error. It may be called more than once.
func (j *Journal) Close() error {
	j.opening.turn.claim(context.Background())
	defer j.opening.turn.release()
	j.opening.closed = true
	if j.opening.log == nil {
		return nil
	}
	if err := j.opening.log.close(); err != nil {
		return fmt.Errorf("filejournal: closing the log in %s: %w", j.Dir, err)
	}
	return nil
}
