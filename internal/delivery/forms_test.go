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
	forms *delivery.Forms
	codec delivery.Codec
	size  int
	key   string // of the messages
	count map[broadcast.ID]int
}

func newEncoder(most, size int) *encoder {
	return &encoder{forms: delivery.NewForms(most), size: size, count: map[broadcast.ID]int{}}
}

func (e *encoder) get(epoch, seq uint64) { e.getAs(&e.codec, epoch, seq, true) }

func (e *encoder) getAs(c *delivery.Codec, epoch, seq uint64, withID bool) {
	id := broadcast.MakeID(epoch, seq)
	e.forms.Get(c, &broadcast.Message{ID: id, Key: e.key}, withID, func() []byte {
		e.count[id]++
		return make([]byte, e.size)
	})
}

// A message is encoded once, as long as it is among the newest.
func TestFormsEncodeOnce(t *testing.T) {
	e := newEncoder(delivery.DefaultCacheBytes, 0)
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

// What a beginning has of a Key is encoded once, however old it is. An event that is as old is
// encoded for each stream.
func TestFormsOfValuesEncodeOnce(t *testing.T) {
	e := newEncoder(delivery.DefaultCacheBytes, 100)
	e.get(2, 1_000_000)
	for key, want := range map[string]int{"k": 1, "": 3} {
		e.key = key
		clear(e.count)
		for range 3 {
			for seq := uint64(1); seq <= 10_000; seq++ {
				e.getAs(&e.codec, 2, 7*seq, false)
			}
		}
		require.Len(t, e.count, 10_000)
		for id, n := range e.count {
			require.Equal(t, want, n, id)
		}
	}
	require.Equal(t, 10_000*(100+delivery.FormSize), e.forms.ValueBytes())
	require.Equal(t, 100+delivery.FormSize, e.forms.Bytes(), "the recent ones have a bound of their own")
	e.key = "k"
	e.getAs(&e.codec, 3, 1, false)
	require.Equal(t, 100+delivery.FormSize, e.forms.ValueBytes(), "another epoch has other messages")
}

// What is kept of values is bounded too. Streams that begin one after the other with more than
// that find a part of it.
func TestFormsOfValuesAreBounded(t *testing.T) {
	const most = 1000
	e := newEncoder(most*(100+delivery.FormSize), 100)
	e.key = "k"
	encoded := 0
	for range 10 {
		clear(e.count)
		for i := range uint64(most * 5 / 4) {
			e.getAs(&e.codec, 2, 1+i*7919%100_003, false)
			require.LessOrEqual(t, e.forms.ValueBytes(), most*(100+delivery.FormSize))
		}
		encoded += len(e.count)
	}
	require.Less(t, encoded, 10*most*5/4*9/10)

	e.size = 2 * most * (100 + delivery.FormSize)
	e.getAs(&e.codec, 2, 3, false)
	require.LessOrEqual(t, e.forms.ValueBytes(), most*(100+delivery.FormSize), "one that is larger by itself is not kept")
}

// What is kept is bounded; the oldest goes first.
func TestFormsAreBounded(t *testing.T) {
	e := newEncoder(10*(1000+delivery.FormSize), 1000)
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
	e := newEncoder(delivery.DefaultCacheBytes, 1)
	for seq := uint64(1); seq <= delivery.FormSlots; seq++ {
		e.get(2, seq)
	}
	assert.Equal(t, delivery.FormSlots*(1+delivery.FormSize), e.forms.Bytes())
	e.get(2, 1_000_000)
	assert.Equal(t, 1+delivery.FormSize, e.forms.Bytes())
}

// A new epoch replaces everything: its sequences are other messages.
func TestFormsOfAnotherEpoch(t *testing.T) {
	e := newEncoder(delivery.DefaultCacheBytes, 0)
	e.get(2, 7)
	e.get(3, 7)
	e.get(3, 7)
	assert.Equal(t, map[broadcast.ID]int{broadcast.MakeID(2, 7): 1, broadcast.MakeID(3, 7): 1}, e.count)
}

// The bound is for the forms of all codecs together, with and without IDs. The form that was
// encoded last stays also where it is larger by itself, so that all streams can send it.
func TestFormsOfAllCodecsShareOneBound(t *testing.T) {
	const most = 10 << 10
	e := newEncoder(most, 1000)
	var codecs [4]delivery.Codec
	for seq := uint64(1); seq <= 50; seq++ {
		for i := range codecs {
			e.getAs(&codecs[i], 2, seq, true)
			e.getAs(&codecs[i], 2, seq, false)
			require.LessOrEqual(t, e.forms.Bytes(), most)
		}
		require.Equal(t, 8, e.count[broadcast.MakeID(2, seq)])
	}
	e.getAs(&codecs[3], 2, 50, false)
	require.Equal(t, 8, e.count[broadcast.MakeID(2, 50)], "the newest are kept")
	e.size = 2 * most
	for i := range codecs {
		e.getAs(&codecs[i], 2, 51, true)
		e.getAs(&codecs[i], 2, 51, true)
		require.Equal(t, i+1, e.count[broadcast.MakeID(2, 51)])
		require.Equal(t, 2*most+delivery.FormSize, e.forms.Bytes())
	}
}

// Messages that no client gets count as well, with what it takes to know that.
func TestEmptyFormsCount(t *testing.T) {
	e := newEncoder(10*delivery.FormSize, 0)
	for seq := uint64(1); seq <= 100; seq++ {
		e.get(2, seq)
		require.LessOrEqual(t, e.forms.Bytes(), 10*delivery.FormSize)
	}
	require.Equal(t, 10*delivery.FormSize, e.forms.Bytes())
}

// With a bound of zero nothing is kept.
func TestNoFormsAreKept(t *testing.T) {
	e := newEncoder(0, 1)
	e.get(2, 1)
	e.get(2, 1)
	require.Equal(t, 2, e.count[broadcast.MakeID(2, 1)])
	require.Zero(t, e.forms.Bytes())
}

// The forms of a codec are released with its last stream; those of others stay.
func TestFormsOfIdleCodecsAreReleased(t *testing.T) {
	e := newEncoder(delivery.DefaultCacheBytes, 100)
	var other delivery.Codec
	e.forms.Enter(&e.codec)
	e.forms.Enter(&e.codec)
	e.forms.Enter(&other)
	for seq := uint64(1); seq <= 10; seq++ {
		e.getAs(&other, 2, seq, true)
		e.getAs(&e.codec, 2, seq, true)
		e.getAs(&e.codec, 2, seq, false)
		e.getAs(&other, 2, seq, false)
	}
	all := e.forms.Bytes()
	e.forms.Leave(&e.codec)
	require.Equal(t, all, e.forms.Bytes(), "a stream is left")
	e.forms.Leave(&e.codec)
	require.Equal(t, all/2, e.forms.Bytes())
	for seq := uint64(1); seq <= 10; seq++ {
		e.getAs(&other, 2, seq, true)
		e.getAs(&other, 2, seq, false)
		require.Equal(t, 4, e.count[broadcast.MakeID(2, seq)])
	}
	e.forms.Leave(&other)
	require.Zero(t, e.forms.Bytes())

	e.key = "k"
	e.forms.Enter(&e.codec)
	e.forms.Enter(&other)
	e.getAs(&e.codec, 2, 20, false)
	e.getAs(&other, 2, 20, false)
	all = e.forms.ValueBytes()
	e.forms.Leave(&e.codec)
	require.Equal(t, all/2, e.forms.ValueBytes())
	e.forms.Leave(&other)
	require.Zero(t, e.forms.ValueBytes())
}

// Streams that ask for the same message at the same time wait for one encoding.
func TestFormsEncodeOnceConcurrently(t *testing.T) {
	f := delivery.NewForms(delivery.DefaultCacheBytes)
	var c delivery.Codec
	var n atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for seq := uint64(1); seq <= 500; seq++ {
				for _, m := range []broadcast.Message{{ID: broadcast.MakeID(2, seq)}, {ID: broadcast.MakeID(2, seq), Key: "k"}} {
					if b := f.Get(&c, &m, m.Key == "", func() []byte { n.Add(1); return []byte{byte(seq)} }); b[0] != byte(seq) {
						panic("the form of another message")
					}
				}
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1000, n.Load())
}
