package sse_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A Client with the default Silence does not replace the connection to a Handler whose
// heartbeats are further apart than that: the stream says so where it begins. One with a
// Silence of its own keeps to it.
func TestClientFollowsTheHeartbeatOfAHandler(t *testing.T) {
	for _, test := range []struct {
		heartbeat, silence time.Duration
		target             string
		connections        int // in an hour
	}{
		{0, 0, "/", 1},
		{5 * time.Minute, 0, "/", 1},
		{5 * time.Minute, 0, "/?envelope=1", 1},
		{5 * time.Minute, 0, "/?heartbeat=1", 1},
		{5 * time.Minute, 0, "/?lastEventId=2-5", 1},
		{5 * time.Minute, 0, "/?lastEventId=2-5&envelope=1", 1},
		{5 * time.Minute, 0, "/?beginning=1", 1},
		{5 * time.Minute, 0, "/?beginning=1&envelope=1", 1},
		{time.Second, 0, "/", 1},
		{5 * time.Minute, 20 * time.Minute, "/", 1},
		{5 * time.Minute, 2 * time.Minute, "/", 10},
	} {
		for _, detach := range []bool{false, true} {
			t.Run(fmt.Sprint(test.heartbeat, test.silence, test.target, detach), func(t *testing.T) {
				h := &sse.Handler{Broadcaster: &broadcast.Hub{}, Grant: func(r *http.Request) (*fanfare.Grant, error) {
					return &fanfare.Grant{Topics: []string{"a"}, Beginning: r.URL.Query().Has("beginning")}, nil
				}, Options: sse.Options{Heartbeat: test.heartbeat}, Detach: detach, Logger: silent}
				connections := 0
				counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { connections++; h.ServeHTTP(w, r) })
				serve(t, counted, func(t *testing.T, n *network) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					r, err := http.NewRequestWithContext(ctx, "GET", "http://memory"+test.target, nil)
					require.NoError(t, err)
					c := &sse.Client{HTTPClient: &http.Client{Transport: n.transport}, Silence: test.silence, Logger: silent}
					for range c.Events(r) {
					}
					if test.connections == 1 {
						require.Equal(t, 1, connections)
						return
					}
					require.Greater(t, connections, test.connections)
				})
			})
		}
	}
}
