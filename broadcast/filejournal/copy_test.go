package filejournal_test

import (
	"bytes"
	"context"
	"fmt"
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
