package sse_test

import (
	"io"
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

// A Writer sends a heartbeat once nothing has been written for Options.Heartbeat.
func TestWriterHeartbeatFollowsSilence(t *testing.T) {
	for _, test := range []struct {
		name, why string
		heartbeat time.Duration
		sends     []time.Duration
		until     time.Duration
		want      string
	}{
		{"silence", "a proxy would cut it", 0, nil, 46 * time.Second, ":\n:\n:\n"},
		{"events", "a heartbeat is sent only after silence", 0, []time.Duration{10 * time.Second, 35 * time.Second}, 56 * time.Second,
			"data: x\n\n:\ndata: x\n\n:\n"},
		{"more often", "it is the handler's to choose", time.Second, nil, 3500 * time.Millisecond, ":\n:\n:\n"},
		{"none", "negative turns it off", -1, nil, time.Hour, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := written(t, &sse.Options{Heartbeat: test.heartbeat}, func(s *sse.Writer) {
				for _, after := range test.sends {
					time.AfterFunc(after, func() { assert.NoError(t, s.Send(sse.Event{Data: []byte("x")})) })
				}
				time.Sleep(test.until)
			})
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/")
				s.expect("retry: 3000\n")
				rest, err := s.rest()
				require.NoError(t, err)
				require.Equal(t, test.want, rest, test.why)
			})
		})
	}
}

// After Close no heartbeat is sent and no deadline is set.
func TestNoHeartbeatAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &recorder{header: http.Header{}}
		s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), nil)
		require.NoError(t, err)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, "retry: 3000\n:\n", w.sent())
		require.NoError(t, s.Close())
		deadline := w.deadline
		time.Sleep(time.Hour)
		require.Equal(t, "retry: 3000\n:\n", w.sent())
		require.Equal(t, deadline, w.deadline, "the connection is net/http's again")
	})
}

// A Write that panics in a heartbeat ends the stream, not the process.
func TestPanicInAHeartbeatEndsItsStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &panicsLater{recorder: &recorder{header: http.Header{}}}
		s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), nil)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		s.Close()
	})
}

type panicsLater struct {
	*recorder
	n int
}

func (p *panicsLater) Write(b []byte) (int, error) {
	if p.n++; p.n > 1 {
		panic("a middleware's Write panics")
	}
	return p.recorder.Write(b)
}

// The first heartbeats of a Writer come sooner if much of its request's body was not read:
// only a write finds out then that the client has left. net/http reads the rest of a short
// one.
func TestFirstHeartbeatsOfAWriterWithAnUnreadBodyComeSooner(t *testing.T) {
	const long = 1 << 20
	for _, test := range []struct {
		name      string
		body      int // its size
		reads     bool
		heartbeat time.Duration
		want      []int // seconds
	}{
		{"unread", long, false, 0, []int{1, 2, 4, 8, 16, 31, 46}},
		{"unread, often", long, false, 3 * time.Second, []int{1, 2, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46, 49}},
		{"unread, none", long, false, -1, nil},
		{"read", long, true, 0, []int{15, 30, 45}},
		{"short", 100, false, 0, []int{15, 30, 45}},
		{"no body", 0, false, 0, []int{15, 30, 45}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var done chan struct{}
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.reads {
					_, err := io.Copy(io.Discard, r.Body)
					assert.NoError(t, err)
				}
				s, err := sse.NewWriter(w, r, &sse.Options{Heartbeat: test.heartbeat})
				if assert.NoError(t, err) {
					<-done
					assert.NoError(t, s.Close())
				}
			})
			serve(t, h, func(t *testing.T, n *network) {
				done = make(chan struct{})
				s := n.do("POST", "/", strings.NewReader(strings.Repeat("x", test.body)))
				s.expect("retry: 3000\n")
				var got []int
				for second := range 50 {
					if strings.Contains(s.received(), ":\n") {
						got = append(got, second)
					}
					time.Sleep(time.Second)
				}
				close(done)
				_, _ = s.rest()
				time.Sleep(time.Second) // net/http ends the connection of an unread body slowly
				require.Equal(t, test.want, got)
			})
		})
	}
}
