package delivery_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// renewing returns a Grant whose tokens are the durations after which the stream then expires.
func renewing(expires time.Time) *fanfare.Grant {
	return &fanfare.Grant{Topics: []string{"a"}, Expires: expires, Renew: func(token string) (time.Time, error) {
		d, err := time.ParseDuration(token)
		if err != nil || d == 0 {
			return time.Time{}, err
		}
		return time.Now().Add(d), nil
	}}
}

// However often a stream is renewed, the clock has one tick for it, and none once it has ended.
func TestRenewalsDoNotPileUp(t *testing.T) {
	for _, every := range []time.Duration{0, 15 * time.Second} { // heartbeats
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			e := engine(&hub, renewing(time.Time{}))
			tr := &transport{every: every}
			conn := connect(t, e, tr, "/")
			for i := range 100 {
				tr.stream.Renew([]string{"10m", "20m", "5m", "30m"}[i%4])
				time.Sleep(time.Second)
				synctest.Wait() // a tick may be due at this moment
				require.Equal(t, 1, e.Ticks())
			}
			tr.stream.End(delivery.Cut)
			<-conn.ended
			synctest.Wait()
			require.Zero(t, e.Ticks())
		})
	}
}

// ticking is a wire whose Tick is a function.
type ticking struct {
	*wire
	tick func() time.Duration
}

func (c ticking) Tick() time.Duration { return c.tick() }

// A time that is set while the clock calls the stream's tick counts, and ticks do not overlap.
func TestRenewalDuringATick(t *testing.T) {
	for token, want := range map[string]time.Duration{"5s": 15 * time.Second, "1ns": 11*time.Second + 1, "1m": 70 * time.Second} {
		t.Run(token, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				e := engine(&hub, renewing(time.Time{}))
				tr, ticks, running := &transport{}, 0, false
				tr.mode.Detached = true
				tr.begin = func(o *delivery.Opening) error {
					o.Start(ticking{tr.conn, func() time.Duration {
						require.False(t, running)
						running = true
						defer func() { running = false }()
						if ticks++; ticks == 2 {
							tr.stream.Renew(token)
							time.Sleep(time.Second)
							return 0
						}
						if ticks == 1 {
							return 10 * time.Second
						}
						return 0
					}}, nil, 0)
					return nil
				}
				began := time.Now()
				conn := connect(t, e, tr, "/")
				<-conn.ended
				require.Equal(t, want, time.Since(began))
				synctest.Wait()
				require.Zero(t, e.Ticks())
			})
		})
	}
}

// With Heartbeats, a MaxAge and an Expires of any length a stream stays open, and others of its
// handler have their heartbeats: no sum of times overflows.
func TestLongTimesDoNotOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, grant := range []*fanfare.Grant{nil, renewing(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))} {
			var hub broadcast.Hub
			e := engine(&hub, grant)
			first := connect(t, e, &transport{every: time.Minute}, "/")
			time.Sleep(90 * time.Second)
			require.Equal(t, []string{"ready 0", "beat"}, first.take())
			for _, tr := range []*transport{{}, {every: math.MaxInt64}, {maxAge: math.MaxInt64}, {every: math.MaxInt64, maxAge: math.MaxInt64}} {
				conn := connect(t, e, tr, "/")
				time.Sleep(5 * time.Minute)
				require.Equal(t, []string{"ready 0"}, conn.take())
				require.Equal(t, slices.Repeat([]string{"beat"}, 5), first.take())
			}
			require.NoError(t, hub.Close()) // ends all
		}
	})
}
