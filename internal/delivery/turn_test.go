package delivery_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// A worker looks at the clock once in several turns. However many it has run before, and when, a
// stream's next heartbeat comes an interval after what was written to it.
func TestTurnsOfAWorkerTellTheTime(t *testing.T) {
	const interval = 15 * time.Second
	for before := range 12 {
		t.Run(fmt.Sprintf("%d turns before", before), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				e := delivery.NewEngine(delivery.Config{Name: "test", Broadcaster: &hub, Logger: quiet, Grant: func(r *http.Request) (*fanfare.Grant, error) {
					return &fanfare.Grant{Topics: r.URL.Query()["t"]}, nil
				}})
				connect(t, e, &transport{every: interval}, "/?t=a")
				c := connect(t, e, &transport{every: interval}, "/?t=b")
				for range before {
					time.Sleep(time.Second)
					publish(t, &hub, "a", "x")
				}
				time.Sleep(time.Second)
				publish(t, &hub, "b", "y")
				synctest.Wait()
				c.take()
				time.Sleep(interval - time.Millisecond)
				require.Empty(t, c.take())
				time.Sleep(2 * time.Millisecond)
				require.Equal(t, []string{"beat"}, c.take())
				require.NoError(t, hub.Close())
				synctest.Wait()
			})
		})
	}
}
