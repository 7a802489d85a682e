package delivery_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/delivery"
)

// deadlines records the deadlines that are set, as times from the beginning.
type deadlines struct {
	began time.Time
	set   []time.Duration
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	if at.IsZero() {
		d.set = append(d.set, -1)
	} else {
		d.set = append(d.set, at.Sub(d.began))
	}
	return nil
}

func TestDeadline(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name    string
		timeout time.Duration
		do      func(*delivery.Deadline)
		want    []time.Duration // -1: none
	}{
		{"renewed once a 64th of it has passed", 64 * s, func(d *delivery.Deadline) {
			for range 12 {
				d.Renew()
				time.Sleep(s * 2 / 5)
			}
		}, []time.Duration{64 * s, 65200 * time.Millisecond, 66400 * time.Millisecond, 67600 * time.Millisecond}},
		{"none without a timeout", 0, func(d *delivery.Deadline) { d.Renew(); d.Clear(); d.Fix() }, nil},
		{"cleared between writes", 10 * s, func(d *delivery.Deadline) { d.Renew(); d.Clear(); d.Renew() }, []time.Duration{10 * s, -1, 10 * s}},
		{"lifted once before writes that cannot wait", 10 * s, func(d *delivery.Deadline) {
			d.Lifted()
			d.Renew()
			d.Lifted()
			d.Lifted()
			d.Renew()
		}, []time.Duration{10 * s, -1, 10 * s}},
		{"lifted also after a write that has waited", 10 * s, func(d *delivery.Deadline) {
			d.Renew()
			time.Sleep(9 * s)
			d.Wrote(1)
			d.Lifted()
		}, []time.Duration{10 * s, -1}},
		{"not lifted once it is fixed", 10 * s, func(d *delivery.Deadline) { d.Fix(); d.Lifted(); d.Cut(); d.Lifted() }, []time.Duration{10 * s, 0}},
		{"fixed once for all that is left", 10 * s, func(d *delivery.Deadline) {
			d.Renew()
			time.Sleep(s)
			d.Fix()
			time.Sleep(8 * s)
			d.Renew()
			d.Clear()
			d.Fix()
		}, []time.Duration{10 * s, 11 * s}},
		{"longer once the client has accepted much at once", 10 * s, func(d *delivery.Deadline) {
			for range 6 { // 384 KiB, one and a half steps
				d.Renew()
				d.Wrote(64 << 10)
			}
			d.Renew()
			time.Sleep(14 * s)
			d.Wrote(64 << 10) // it has waited
			d.Renew()
			time.Sleep(14 * s)
			d.Wrote(64 << 10)
			d.Renew() // half of it counts
		}, []time.Duration{10 * s, 12500 * time.Millisecond, 15 * s, 29 * s, 38 * s}},
		{"three times as long at most", 10 * s, func(d *delivery.Deadline) { d.Renew(); d.Wrote(1 << 30); d.Renew() }, []time.Duration{10 * s, 30 * s}},
		{"set once it has passed where others share the connection, and no longer than others", 10 * s, func(d *delivery.Deadline) {
			d.Multiplexed = true
			d.Renew()
			d.Wrote(1 << 30)
			time.Sleep(s)
			d.Renew()
			time.Sleep(20 * s)
		}, []time.Duration{11 * s}},
		{"not set between writes there", 10 * s, func(d *delivery.Deadline) {
			d.Multiplexed = true
			for range 100 { // each begins where the timer of another looks
				d.Renew()
				time.Sleep(9 * s)
				d.Clear()
				time.Sleep(s)
			}
			time.Sleep(time.Hour)
		}, nil},
		{"of the write that waits, not of those before it", 10 * s, func(d *delivery.Deadline) {
			d.Multiplexed = true
			for range 7 {
				d.Renew()
				d.Clear()
				time.Sleep(s)
			}
			d.Renew()
			time.Sleep(time.Hour)
		}, []time.Duration{17 * s}},
		{"lifted there if a write is done at the last moment", 10 * s, func(d *delivery.Deadline) {
			d.Multiplexed = true
			d.Renew()
			time.Sleep(10 * s)
			synctest.Wait()
			d.Clear()
			d.Renew()
			d.Clear()
			time.Sleep(time.Hour)
		}, []time.Duration{10 * s, -1}},
		{"fixed at once there, and once", 10 * s, func(d *delivery.Deadline) {
			d.Multiplexed = true
			d.Renew()
			time.Sleep(s)
			d.Fix()
			time.Sleep(time.Hour)
			d.Clear()
		}, []time.Duration{11 * s}},
		{"cut at once there", 10 * s, func(d *delivery.Deadline) {
			d.Multiplexed = true
			d.Renew()
			time.Sleep(s)
			d.Cut()
			time.Sleep(time.Hour)
		}, []time.Duration{s}},
		{"left alone there once the connection is somebody else's", 10 * s, func(d *delivery.Deadline) {
			d.Multiplexed = true
			d.Renew()
			d.Clear()
			d.Leave()
			time.Sleep(time.Hour)
		}, []time.Duration{10 * s}},
		{"cut at once, also once it is fixed", 10 * s, func(d *delivery.Deadline) { d.Fix(); time.Sleep(s); d.Cut(); d.Renew() }, []time.Duration{10 * s, s}},
		{"cut without a timeout", 0, func(d *delivery.Deadline) { d.Cut() }, []time.Duration{0}},
		{"not touched once the connection is somebody else's", 10 * s, func(d *delivery.Deadline) { d.Leave(); d.Cut(); d.Renew(); d.Fix() }, []time.Duration{10 * s}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				of := &deadlines{began: time.Now()}
				test.do(&delivery.Deadline{Of: of, Timeout: test.timeout})
				synctest.Wait()
				assert.Equal(t, test.want, of.set)
			})
		})
	}
}

func TestLifetime(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := delivery.Lifetime(time.Hour)
		assert.GreaterOrEqual(t, d, 48*time.Minute)
		assert.LessOrEqual(t, d, time.Hour)
		seen[d] = true
	}
	assert.Greater(t, len(seen), 90)
	assert.Equal(t, time.Nanosecond, delivery.Lifetime(1))
}

// A SetWriteDeadline may itself end the stream: Fix and Cut do not wait for it.
func TestDeadlineThatCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d *delivery.Deadline
		var set []time.Duration
		began := time.Now()
		d = &delivery.Deadline{Timeout: time.Minute, Of: setter(func(at time.Time) error {
			set = append(set, at.Sub(began))
			d.Fix()
			d.Cut()
			return nil
		})}
		d.Renew()
		assert.Equal(t, time.Duration(0), set[len(set)-1], "the last one is the cut")
	})
}

// A SetWriteDeadline that ends its goroutine, as FailNow of a test does, leaves no lock behind, and
// what was asked for meanwhile is done before the connection is somebody else's.
func TestDeadlineThatExits(t *testing.T) {
	for name, do := range map[string]func(*delivery.Deadline){
		"renewed": (*delivery.Deadline).Renew,
		"fixed":   (*delivery.Deadline).Fix,
		"cut":     (*delivery.Deadline).Cut,
	} {
		t.Run(name, func(t *testing.T) {
			var last time.Time
			var d *delivery.Deadline
			d = &delivery.Deadline{Timeout: time.Minute, Of: setter(func(at time.Time) error {
				first := last.IsZero()
				if last = at; first {
					d.Cut()
					runtime.Goexit()
				}
				return nil
			})}
			inGoroutine := func(f func()) {
				ended := make(chan struct{})
				go func() { defer close(ended); f() }()
				select {
				case <-ended:
				case <-time.After(10 * time.Second):
					require.Fail(t, "it waits for a lock that nobody holds any more")
				}
			}
			inGoroutine(func() { do(d) })
			inGoroutine(d.Leave)
			assert.False(t, last.After(time.Now()), "it is cut")
		})
	}
}

type setter func(time.Time) error

func (f setter) SetWriteDeadline(at time.Time) error { return f(at) }
