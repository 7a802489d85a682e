package broadcast_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Publishers set hot, cold and ever-new Keys, while readers with small and large buffers go
// through them, join and leave. No older value of a Key comes after a newer one, and in the end
// all have what the Hub has.
func TestStressOfKeys(t *testing.T) {
	const published, publishers = 3_000, 2
	hub := &broadcast.Hub{Keep: 64, Values: 200}
	defer hub.Close()
	var readers, writers sync.WaitGroup
	var stop atomic.Bool
	views := make([]*stressView, 8)
	for i := range views {
		v := &stressView{t: t, hub: hub, opts: broadcast.SubscribeOptions{Topics: []string{"a", "b"}, Beginning: i%2 == 0}, buf: make([]*broadcast.Message, 1+i*9)}
		views[i] = v
		readers.Go(func() { v.run(&stop, i%4 == 3) })
	}
	for p := range publishers {
		writers.Go(func() {
			for i := range published {
				m := broadcast.Message{Topic: "a", Data: []byte(fmt.Sprint(i))}
				switch {
				case i%3 == 0:
					m.Key = "hot"
				case i%7 == 0:
					m.Topic, m.First = "b", i%2 == 0
				case i%5 == 0:
					m.Key = fmt.Sprint("new ", p, i)
				default:
					m.Key, m.Removed = fmt.Sprint("k", i*7919%150), i%11 == 0
				}
				if _, err := hub.Publish(t.Context(), m); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	last := &stressView{t: t, hub: hub, opts: broadcast.SubscribeOptions{Topics: []string{"a", "b"}, Beginning: true}, buf: make([]*broadcast.Message, 64)}
	last.run(&stop, false)
	require.NotEmpty(t, last.values)
	for i, v := range views {
		if v.opts.Beginning {
			for key, m := range last.values {
				require.Same(t, m, v.values[key], "reader %d, key %q", i, key)
			}
		}
	}
}

// stressView is a reader, and what it has.
type stressView struct {
	t      *testing.T
	hub    *broadcast.Hub
	opts   broadcast.SubscribeOptions
	buf    []*broadcast.Message
	values map[string]*broadcast.Message
}

// run reads until all is read after stop. It subscribes anew now and then if it leaves.
func (v *stressView) run(stop *atomic.Bool, leaves bool) {
	for polls := 1000; ; polls = 1000 {
		sub, err := v.hub.Subscribe(v.t.Context(), v.opts)
		if err != nil {
			v.t.Error(err)
			return
		}
		v.values = make(map[string]*broadcast.Message)
		for done := false; ; polls-- {
			last := stop.Load()
			n, err := sub.Poll(v.buf)
			done = last && n == 0 && err == nil
			if errors.Is(err, broadcast.ErrBegin) {
				clear(v.values)
			}
			for _, m := range v.buf[:n] {
				v.apply(m)
			}
			if done {
				sub.Close()
				return
			}
			if leaves && polls <= 0 && !last || errors.Is(err, broadcast.ErrSlow) {
				break
			}
		}
		sub.Close()
	}
}

func (v *stressView) apply(m *broadcast.Message) {
	key := m.Topic + "/" + m.Key
	if before := v.values[key]; before != nil && before.ID.Seq() > m.ID.Seq() {
		v.t.Errorf("%v after %v of %q", m.ID, before.ID, key)
	}
	v.values[key] = m // a removal too: it is what the Key was last
}

// ErrEnded comes after the last message, also if that is published during the Poll.
func TestStressOfEnds(t *testing.T) {
	for range 2_000 {
		var hub broadcast.Hub
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}})
		require.NoError(t, err)
		var publisher sync.WaitGroup
		publisher.Go(func() {
			for _, m := range []broadcast.Message{{Topic: "a", Key: "k"}, {Topic: "a", End: true}} {
				if _, err := hub.Publish(t.Context(), m); err != nil {
					t.Error(err)
				}
			}
		})
		buf, got := make([]*broadcast.Message, 4), 0
		for err = nil; err == nil; {
			var n int
			n, err = sub.Poll(buf)
			got += n
		}
		publisher.Wait()
		require.ErrorIs(t, err, broadcast.ErrEnded)
		require.Equal(t, 2, got, "messages before ErrEnded")
		hub.Close()
	}
}
