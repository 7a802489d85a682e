package sse_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A detached stream, and one with a body that net/http has not read, sends its first
// heartbeats sooner: only a write finds out that the client has left. Others do not.
func TestFirstHeartbeatsOfADetachedStreamComeSooner(t *testing.T) {
	for _, test := range []struct {
		name      string
		detach    bool
		heartbeat time.Duration
		messageAt time.Duration
		want      []int // seconds
	}{
		{"detached", true, 0, 0, []int{1, 2, 4, 8, 16, 31, 46}},
		{"often", true, 3 * time.Second, 0, []int{1, 2, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46, 49}},
		{"none", true, -1, 0, nil},
		{"after a message", true, 0, 3 * time.Second, []int{1, 2, 6, 12, 24, 39}},
		{"attached", false, 0, 0, []int{15, 30, 45}},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := new(broadcast.Hub)
			h := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: test.detach, Logger: silent, Options: sse.Options{Heartbeat: test.heartbeat}}
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/")
				s.expectBegin()
				var got []int
				for second := range 50 {
					if strings.Contains(s.received(), ":\n") {
						got = append(got, second)
					}
					if test.messageAt == time.Duration(second)*time.Second && second > 0 {
						publish(t, hub, "a", "x")
						s.received()
					}
					time.Sleep(time.Second)
				}
				require.Equal(t, test.want, got)
			})
		})
	}
}
