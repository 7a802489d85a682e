package sse_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// Queued events go out in one write with whatever is sent next, or once they are 64 KiB.
func TestQueuedEventsGoOutWithTheNextWrite(t *testing.T) {
	event := func(data string) sse.Event { return sse.Event{Data: []byte(data)} }
	for _, test := range []struct {
		name string
		next func(s *sse.Writer) error
		want string
	}{
		{"a Send", func(s *sse.Writer) error { return s.Send(event("c")) }, "data: a\n\ndata: b\n\ndata: c\n\n"},
		{"a Send of nothing", func(s *sse.Writer) error { return s.Send() }, "data: a\n\ndata: b\n\n"},
		{"SendJSON", func(s *sse.Writer) error { return s.SendJSON("", 1) }, "data: a\n\ndata: b\n\ndata: 1\n\n"},
		{"a comment", func(s *sse.Writer) error { return s.Comment("c") }, "data: a\n\ndata: b\n\n: c\n"},
		{"Close", (*sse.Writer).Close, "data: a\n\ndata: b\n\n"},
		{"Abort", func(s *sse.Writer) error { return s.Abort() }, "data: a\n\ndata: b\n\n"},
		{"a heartbeat", func(*sse.Writer) error { time.Sleep(20 * time.Second); return nil }, "data: a\n\ndata: b\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &recorder{header: http.Header{}}
				s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), &sse.Options{Retry: -1})
				require.NoError(t, err)
				defer s.Close()
				data := []byte("a")
				require.NoError(t, s.Queue(sse.Event{Data: data}))
				copy(data, "z") // it does not keep Data
				require.ErrorIs(t, s.Queue(event("x"), event("\xff")), sse.ErrInvalidEvent)
				require.ErrorIs(t, s.Send(event("x"), event("\xff")), sse.ErrInvalidEvent)
				require.NoError(t, s.Queue(event("b")))
				require.Empty(t, w.sent())
				require.NoError(t, test.next(s))
				require.Equal(t, test.want, w.sent())
				require.Len(t, w.writes, 1)
			})
		})
	}
	t.Run("64 KiB", func(t *testing.T) {
		w := &recorder{header: http.Header{}}
		s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), nil)
		require.NoError(t, err)
		defer s.Close()
		for range 1000 {
			require.NoError(t, s.Queue(sse.Event{Data: bytes.Repeat([]byte("x"), 1000)}))
		}
		require.Greater(t, len(w.sent()), 900_000)
		require.Less(t, len(w.writes), 40)
	})
}

// A comment is lines that a client ignores, without a blank line.
func TestCommentFiresNothing(t *testing.T) {
	w := &recorder{header: http.Header{}}
	s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), nil)
	require.NoError(t, err)
	for text, want := range map[string]string{
		"hello": ": hello\n", "": ": \n", "a\nb\r\nc\rd": ": a\n: b\n: c\n: d\n", "data: x\n\n": ": data: x\n: \n: \n",
	} {
		before := len(w.sent())
		require.NoError(t, s.Comment(text))
		require.Equal(t, want, w.sent()[before:])
	}
	require.ErrorIs(t, s.Comment("\xff"), sse.ErrInvalidEvent)
	require.NoError(t, s.Send(sse.Event{Data: []byte("x")}))
	got, _ := events(t, w.sent())
	require.Equal(t, []sse.Event{{Data: []byte("x"), Retry: 3 * time.Second}}, got)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Comment("late"), sse.ErrClosed)
	require.ErrorIs(t, s.Queue(sse.Event{Data: []byte("late")}), sse.ErrClosed)
	assert.True(t, strings.HasSuffix(w.sent(), "data: x\n\n"))
}
