package filejournal_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

// Copy moves the value of each Key and all messages that are kept to another journal, in order.
func TestCopy(t *testing.T) {
	from := newSmall(t, t.TempDir())
	set(t, from, broadcast.Message{Topic: "prices", Key: "old", Type: "price", From: "f", Data: []byte("1")})
	set(t, from, broadcast.Message{Topic: "prices", Key: "gone", Data: []byte("1")})
	fill(t, from)
	set(t, from, broadcast.Message{Topic: "prices", Key: "gone", Removed: true})
	for i := range 1000 {
		set(t, from, broadcast.Message{Topic: "events", Data: fmt.Append(nil, i)})
	}
	to := new(broadcasttest.Journal)
	n, err := filejournal.Copy(t.Context(), from, to)
	require.NoError(t, err)
	_, newest, err := to.Bounds(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, n, newest.Seq())
	values, events := map[string]broadcast.Message{}, 0
	for m, err := range to.Tail(t.Context(), broadcast.ID{}) {
		require.NoError(t, err)
		switch {
		case m.Removed:
			delete(values, m.Key)
		case m.Key != "":
			values[m.Key] = m
		case m.Topic == "events":
			require.Equal(t, fmt.Sprint(events), string(m.Data))
			events++
		}
		if m.ID == newest {
			break
		}
	}
	require.Equal(t, 1000, events)
	require.Len(t, values, 1)
	require.Equal(t, "price f 1", values["old"].Type+" "+values["old"].From+" "+string(values["old"].Data))

	_, err = filejournal.Copy(t.Context(), from, to)
	require.ErrorContains(t, err, "has messages already")
}

// hooked is a journal that calls functions, if they are not nil.
type hooked struct {
	broadcast.Journal
	beforeBounds, afterBounds func()
}

func (j hooked) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if j.beforeBounds != nil {
		j.beforeBounds()
	}
	if j.afterBounds != nil {
		defer j.afterBounds()
	}
	return j.Journal.Bounds(ctx)
}

// hookedLog is a log that calls a function before each Tail.
type hookedLog struct {
	*filejournal.Journal
	beforeTail func()
}

func (j hookedLog) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	j.beforeTail()
	return j.Journal.Tail(ctx, after)
}

// kept returns what a journal keeps.
func kept(t *testing.T, j broadcast.Journal) (ms []broadcast.Message) {
	t.Helper()
	oldest, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	if oldest.Seq() > newest.Seq() {
		return nil
	}
	for m, err := range j.Tail(t.Context(), broadcast.ID{}) {
		require.NoError(t, err)
		if ms = append(ms, m); m.ID == newest {
			break
		}
	}
	return ms
}

// What a log had when Copy began is copied, also if it is tidied or goes on meanwhile.
func TestCopyWhileTheLogIsInUse(t *testing.T) {
	for _, when := range []string{"tidied before", "before the state", "between the state and the rest"} {
		t.Run(when, func(t *testing.T) {
			from := open(t, t.TempDir())
			from.MaxBytes = 1 << 20
			big := broadcast.Message{Topic: "a", Data: make([]byte, 600<<10)}
			set(t, from, broadcast.Message{Topic: "a", Key: "k", Data: []byte("1")})
			set(t, from, big)
			set(t, from, big)
			goOn := func() {
				for range 4 {
					set(t, from, big)
				}
				require.NoError(t, filejournal.Tidy(from))
			}
			to := new(broadcasttest.Journal)
			slow := hooked{Journal: to}
			switch when {
			case "tidied before":
				slow.beforeBounds = func() { require.NoError(t, filejournal.Tidy(from)) }
			case "before the state":
				slow.beforeBounds = goOn
			default:
				require.NoError(t, filejournal.Tidy(from))
			}
			_, last, err := from.Bounds(t.Context())
			require.NoError(t, err)
			tails := 0
			_, err = filejournal.Copy(t.Context(), hookedLog{from, func() {
				if tails++; tails == 2 && when == "between the state and the rest" {
					goOn()
				}
			}}, slow)
			require.NoError(t, err)
			entries := kept(t, to)
			require.NotEmpty(t, entries)
			require.Equal(t, "k", entries[0].Key)
			require.Len(t, entries[len(entries)-1].Data, len(big.Data))
			require.LessOrEqual(t, len(entries), int(last.Seq()))

			goOn() // nothing is kept for a Copy that has returned
			oldest, _, err := from.Bounds(t.Context())
			require.NoError(t, err)
			require.Greater(t, oldest.Seq(), last.Seq())
		})
	}
}

// What an engine removes while it is copied is an error, and the rest is copied.
func TestCopyWhileMessagesAreRemoved(t *testing.T) {
	for _, compacts := range []bool{false, true} {
		for _, before := range []int{0, 2} {
			t.Run(fmt.Sprintf("compacts %v, %d before", compacts, before), func(t *testing.T) {
				engine := new(broadcasttest.Journal)
				for i := range 6 {
					_, err := engine.Append(t.Context(), broadcast.Message{Topic: "a", Key: fmt.Sprint("k", i)})
					require.NoError(t, err)
				}
				remove := engine.Trim
				if compacts {
					remove = engine.Compact
				}
				remove(before)
				from := hooked{Journal: engine, afterBounds: func() { remove(2) }}
				to := new(broadcasttest.Journal)
				_, err := filejournal.Copy(t.Context(), compactor{from, compacts}, to)
				require.ErrorIs(t, err, broadcast.ErrGap)
				entries := kept(t, to)
				require.Equal(t, "k5", entries[len(entries)-1].Key)
			})
		}
	}
}

// compactor is a journal that may be a Compactor.
type compactor struct {
	broadcast.Journal
	compacts bool
}

func (j compactor) Compacts() bool { return j.compacts }

// What the old journal has lost is an error, and the rest is copied.
func TestCopyOfADamagedLog(t *testing.T) {
	dir := t.TempDir()
	from := open(t, dir)
	for range 5 {
		publish(t, from, "a message that is not short")
	}
	require.NoError(t, from.Close())
	name := filepath.Join(dir, "0000000000000001.log")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	b[bytes.Index(b, []byte("short"))] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o600))
	n, err := filejournal.Copy(t.Context(), open(t, dir), new(broadcasttest.Journal))
	require.ErrorIs(t, err, broadcast.ErrGap)
	require.Equal(t, 4, n)
}

// A copy of the folder that was made while messages were published has a new epoch, and what had
// been synced when the copying began.
func TestCopyOfALiveFolder(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	j := newSmall(t, dir)
	set(t, j, broadcast.Message{Topic: "prices", Key: "k", Data: []byte("1")})
	fill(t, j)
	last := publish(t, j, "before")
	require.NoError(t, filejournal.Tidy(j)) // else the copy may lack a segment, which is a gap
	done := make(chan error, 1)
	go func() {
		for i := range 200 {
			if _, err := j.Append(t.Context(), broadcast.Message{Topic: "a", Data: fmt.Append(nil, i)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	require.NoError(t, <-done)
	backup := newSmall(t, to)
	_, newest, err := backup.Bounds(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, last.Epoch(), newest.Epoch())
	require.GreaterOrEqual(t, newest.Seq(), last.Seq())
	require.Equal(t, "1", readBeginning(t, backup).values["prices/k"])
	m, err := next(t, backup, broadcast.MakeID(newest.Epoch(), last.Seq()-1))
	require.NoError(t, err)
	require.Equal(t, "before", string(m.Data))
}

func ExampleCopy() {
	dir, _ := os.MkdirTemp("", "push")
	defer os.RemoveAll(dir)
	files := &filejournal.Journal{Dir: dir}
	files.Append(context.Background(), broadcast.Message{Topic: "a", Data: []byte("hello")})
	engine := new(broadcasttest.Journal) // a redisjournal.Journal or natsjournal.Journal instead
	n, err := filejournal.Copy(context.Background(), files, engine)
	fmt.Println(n, err, files.Close())
	// Output: 1 <nil> <nil>
}
