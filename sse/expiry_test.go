package sse_test

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A stream ends when its Grant expires, with heartbeats and without, and goes on if that is far
// in the future.
func TestStreamEndsWhenItExpires(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for _, heartbeat := range []time.Duration{0, -1, math.MaxInt64} {
			for _, far := range []bool{false, true} {
				t.Run(fmt.Sprintf("detach %v, Heartbeat %v, far %v", detach, heartbeat, far), func(t *testing.T) {
					h := &sse.Handler{Broadcaster: new(broadcast.Hub), Detach: detach, Logger: silent, Options: sse.Options{Heartbeat: heartbeat},
						Grant: func(*http.Request) (*fanfare.Grant, error) {
							g := &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(100 * time.Second)}
							if far {
								g.Expires = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
							}
							return g, nil
						}}
					serve(t, h, func(t *testing.T, n *network) {
						first := n.get("/") // the handler's clock begins
						first.expectBegin()
						time.Sleep(time.Second)
						began := time.Now()
						s := n.get("/")
						s.expectBegin()
						if far {
							time.Sleep(time.Hour)
							require.EqualValues(t, 2, h.Stats().Open)
							first.cancel()
							s.cancel()
							synctest.Wait()
							return
						}
						_, err := s.rest()
						require.NoError(t, err)
						require.Equal(t, 100*time.Second, time.Since(began))
					})
				})
			}
		}
	}
}
