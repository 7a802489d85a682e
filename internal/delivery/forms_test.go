package delivery_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// encoder counts how often each message is encoded.
type encoder struct {
	forms delivery.Forms
	size  int
	count map[broadcast.ID]int
}

func (e *encoder) get(epoch, seq uint64) {
	m := &broadcast.Message{ID: broadcast.MakeID(epoch, seq)}
	e.forms.Get(m, func() []byte {
		e.count[m.ID]++
		return make([]byte, e.size)
	})
}

// A message is encoded once, as long as it is among the newest.
func TestFormsEncodeOnce(t *testing.T) {
	e := encoder{count: map[broadcast.ID]int{}}
	for seq := uint64(1); seq <= 3000; seq++ {
		e.get(2, seq)
		e.get(2, seq)
		e.get(2, max(1, seq-min(seq-1, delivery.FormSlots-1)))
	}
	for id, n := range e.count {
		require.Equal(t, 1, n, id)
	}
	e.get(2, 1)
	assert.Equal(t, 2, e.count[broadcast.MakeID(2, 1)], "an old message is encoded again")
	e.get(2, 3000)
	assert.Equal(t, 1, e.count[broadcast.MakeID(2, 3000)], "without a loss for the newest")
}

// What is kept has at most FormBytes; the oldest goes first.
func TestFormsAreBounded(t *testing.T) {
	e := encoder{count: map[broadcast.ID]int{}, size: delivery.FormBytes / 10}
	for seq := uint64(1); seq <= 20; seq++ {
		e.get(2, seq)
	}
	for seq := uint64(1); seq <= 20; seq++ {
		e.get(2, seq)
		want := 1
		if seq <= 10 {
			want = 2
		}
		assert.Equal(t, want, e.count[broadcast.MakeID(2, seq)], seq)
	}
}

// What is older than the newest messages is dropped, also where sequences are skipped
// because no client of the handler gets them.
func TestFormsAreDropped(t *testing.T) {
	e := encoder{count: map[broadcast.ID]int{}, size: 1}
	for seq := uint64(1); seq <= delivery.FormSlots; seq++ {
		e.get(2, seq)
	}
	assert.Equal(t, delivery.FormSlots, e.forms.Bytes())
	e.get(2, 1_000_000)
	assert.Equal(t, 1, e.forms.Bytes())
}

// A new epoch replaces everything: its sequences are other messages.
func TestFormsOfAnotherEpoch(t *testing.T) {
	e := encoder{count: map[broadcast.ID]int{}}
	e.get(2, 7)
	e.get(3, 7)
	e.get(3, 7)
	assert.Equal(t, map[broadcast.ID]int{broadcast.MakeID(2, 7): 1, broadcast.MakeID(3, 7): 1}, e.count)
}

// Streams that ask for the same message at the same time wait for one encoding.
func TestFormsEncodeOnceConcurrently(t *testing.T) {
	var f delivery.Forms
	var n atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for seq := uint64(1); seq <= 500; seq++ {
				m := &broadcast.Message{ID: broadcast.MakeID(2, seq)}
				if b := f.Get(m, func() []byte { n.Add(1); return []byte{byte(seq)} }); b[0] != byte(seq) {
					panic("the form of another message")
				}
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 500, n.Load())
}
