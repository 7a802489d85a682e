package filejournal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

func TestDirIsRequired(t *testing.T) {
	var j filejournal.Journal
	_, _, err := j.Bounds(t.Context())
	require.ErrorContains(t, err, "Journal.Dir")
	_, err = j.Append(t.Context(), broadcast.Message{Topic: "a"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.NoError(t, j.Close())
}

// One Journal at a time has a folder. Another one waits for it.
func TestFolderIsLocked(t *testing.T) {
	dir := t.TempDir()
	first := &filejournal.Journal{Dir: dir}
	id := publish(t, first, "one")

	second := open(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := second.Append(ctx, broadcast.Message{Topic: "a"})
	require.ErrorIs(t, err, filejournal.ErrInUse)
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.ErrorContains(t, err, fmt.Sprintf("process %d", os.Getpid()))

	waited := make(chan broadcast.ID)
	go func() {
		_, newest, _ := second.Bounds(t.Context())
		waited <- newest
	}()
	require.NoError(t, first.Close())
	require.Equal(t, id, <-waited)
}

// A Journal that was closed is used no more, and its Tails end.
func TestClose(t *testing.T) {
	j := &filejournal.Journal{Dir: t.TempDir()}
	id := publish(t, j, "one")
	ended := make(chan error)
	go func() {
		for _, err := range j.Tail(t.Context(), id) {
			ended <- err
		}
	}()
	require.NoError(t, j.Close())
	require.NoError(t, j.Close())
	require.Error(t, <-ended)
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "a"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	_, _, err = j.Bounds(t.Context())
	require.Error(t, err)
}

// The oldest messages are removed in whole segments, so that the log stays below MaxBytes.
func TestMaxBytes(t *testing.T) {
	const most = 2 << 20
	dir := t.TempDir()
	j := open(t, dir)
	j.MaxBytes, j.SyncEvery = most, -1
	var last broadcast.ID
	for range 300 {
		last = publish(t, j, string(bytes.Repeat([]byte("x"), 20_000)))
	}
	oldest, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, last, newest)
	require.Eventually(t, func() bool {
		publish(t, j, "one more")
		oldest, newest, err = j.Bounds(t.Context())
		require.NoError(t, err)
		return size(t, dir) < int64(most)
	}, 10*time.Second, 10*time.Millisecond)
	require.Greater(t, size(t, dir), int64(most/2))
	require.Greater(t, oldest.Seq(), uint64(1))

	first, err := next(t, j, broadcast.MakeID(newest.Epoch(), 3))
	require.ErrorIs(t, err, broadcast.ErrGap)
	require.Equal(t, oldest.Seq()-1, first.ID.Seq())
	first, err = next(t, j, broadcast.MakeID(newest.Epoch(), oldest.Seq()-1))
	require.NoError(t, err)
	require.Equal(t, oldest, first.ID)
}

// Messages are kept for MaxAge at least, and removed when a sixteenth more has passed.
func TestMaxAge(t *testing.T) {
	const age = 400 * time.Millisecond
	j := open(t, t.TempDir())
	j.MaxAge = age
	publish(t, j, "old")
	began := time.Now()
	require.Eventually(t, func() bool {
		publish(t, j, "new")
		oldest, _, err := j.Bounds(t.Context())
		require.NoError(t, err)
		return oldest.Seq() > 1
	}, 10*time.Second, 5*time.Millisecond)
	require.GreaterOrEqual(t, time.Since(began), age)
}

// Damage in the middle of the log is a gap, and what follows it can be read.
func TestDamageIsAGap(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(b []byte, at int) []byte
	}{
		{"a byte of a message", func(b []byte, at int) []byte { b[at+30] ^= 1; return b }},
		{"a length", func(b []byte, at int) []byte { b[at+5] ^= 0x40; return b }},
		{"the mark of a record", func(b []byte, at int) []byte { b[at] = 0; return b }},
		{"zeros", func(b []byte, at int) []byte { clear(b[at : at+20]); return b }},
		{"missing bytes", func(b []byte, at int) []byte { return slices.Delete(b, at, at+7) }},
		{"bytes that look like a record", func(b []byte, at int) []byte { copy(b[at+20:], "\xfaFJ\n\xff\xff\xff\x03"); return b }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir)
			for i := range 10 {
				publish(t, j, fmt.Sprintf("message %d, which is not short", i+1))
			}
			require.NoError(t, j.Close())
			name := filepath.Join(dir, "0000000000000001.log")
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			at := bytes.Index(b, []byte("message 5"))
			at = bytes.LastIndex(b[:at], []byte("\xfaFJ\n"))
			require.NoError(t, os.WriteFile(name, test.damage(b, at), 0o600))

			j = open(t, dir)
			_, newest, err := j.Bounds(t.Context())
			require.NoError(t, err)
			require.Equal(t, uint64(10), newest.Seq())
			var got []string
			for m, err := range j.Tail(t.Context(), broadcast.ID{}) {
				if err != nil {
					require.ErrorIs(t, err, broadcast.ErrGap)
					got = append(got, fmt.Sprintf("gap up to %d", m.ID.Seq()))
				} else {
					got = append(got, fmt.Sprint(m.ID.Seq()))
				}
				if m.ID == newest {
					break
				}
			}
			require.Equal(t, []string{"1", "2", "3", "4", "gap up to 5", "6", "7", "8", "9", "10"}, got)
			require.Equal(t, uint64(11), publish(t, j, "one more").Seq())
		})
	}
}

// The log has a new epoch if something is missing that was acknowledged, and only then.
func TestEpoch(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string) (newDir string)
		same   bool
	}{
		{"nothing happened", func(t *testing.T, dir string) string { return dir }, true},
		{"the end was cut off", func(t *testing.T, dir string) string {
			name := filepath.Join(dir, "0000000000000001.log")
			info, err := os.Stat(name)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(name, info.Size()-1))
			return dir
		}, false},
		{"the log was removed", func(t *testing.T, dir string) string {
			require.NoError(t, os.Remove(filepath.Join(dir, "0000000000000001.log")))
			return dir
		}, false},
		{"the state was removed", func(t *testing.T, dir string) string {
			require.NoError(t, os.Remove(filepath.Join(dir, "state")))
			return dir
		}, false},
		{"the folder was moved", func(t *testing.T, dir string) string {
			to := filepath.Join(t.TempDir(), "moved")
			require.NoError(t, os.Rename(dir, to))
			return to
		}, true},
		{"the folder was copied", func(t *testing.T, dir string) string {
			to := filepath.Join(t.TempDir(), "copy")
			require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
			return to
		}, false},
		{"bytes follow the end", func(t *testing.T, dir string) string {
			f, err := os.OpenFile(filepath.Join(dir, "0000000000000001.log"), os.O_WRONLY|os.O_APPEND, 0)
			require.NoError(t, err)
			_, err = f.WriteString("\xfaFJ\n half a record")
			require.NoError(t, errors.Join(err, f.Close()))
			return dir
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			j := open(t, dir)
			var last broadcast.ID
			for range 5 {
				last = publish(t, j, "text")
			}
			require.NoError(t, j.Close())
			j = open(t, test.change(t, dir))
			_, newest, err := j.Bounds(t.Context())
			require.NoError(t, err)
			if test.same {
				require.Equal(t, last, newest)
			} else {
				require.NotEqual(t, last.Epoch(), newest.Epoch())
			}
			require.Equal(t, newest.Seq()+1, publish(t, j, "one more").Seq())
		})
	}
}

// A log whose files are removed while it is open says so, and begins anew.
func TestFolderIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	j := open(t, dir)
	id := publish(t, j, "one")
	require.NoError(t, os.RemoveAll(dir))
	require.Eventually(t, func() bool {
		_, newest, err := j.Bounds(t.Context())
		return err == nil && newest.Epoch() != id.Epoch()
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, uint64(1), publish(t, j, "two").Seq())
}

// Where the folder cannot be written, the error names it.
func TestFolderCannotBeMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	j := open(t, dir)
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "a"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.ErrorContains(t, err, dir)
}

// A message that no reader would accept is refused, and does not fail the others of its group.
func TestTooLarge(t *testing.T) {
	j := open(t, t.TempDir())
	ids, err := j.Append(t.Context(), broadcast.Message{Topic: "a", Data: []byte("1")},
		broadcast.Message{Topic: "a", Data: make([]byte, 65<<20)}, broadcast.Message{Topic: "a", Data: []byte("2")})
	errs, ok := errors.AsType[broadcast.AppendErrors](err)
	require.True(t, ok)
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], broadcast.ErrNotPublished)
	require.NoError(t, errs[2])
	require.Equal(t, []uint64{1, 0, 2}, []uint64{ids[0].Seq(), ids[1].Seq(), ids[2].Seq()})
}

func publish(t *testing.T, j *filejournal.Journal, text string) broadcast.ID {
	t.Helper()
	ids, err := j.Append(t.Context(), broadcast.Message{Topic: "a", Data: []byte(text)})
	require.NoError(t, err)
	return ids[0]
}

// next returns the first that a Tail yields.
func next(t *testing.T, j *filejournal.Journal, after broadcast.ID) (broadcast.Message, error) {
	t.Helper()
	for m, err := range j.Tail(t.Context(), after) {
		return m, err
	}
	require.Fail(t, "nothing was yielded")
	return broadcast.Message{}, nil
}

func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // it was removed, or renamed
		}
		require.NoError(t, err)
		bytes += info.Size()
	}
	return bytes
}
