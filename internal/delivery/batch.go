package delivery

import (
	"net"
	"sync"

	"github.com/fanfare-go/fanfare/broadcast"
)

// batch is what one look found, on its way to the connection.
type batch struct {
	messages [256]*broadcast.Message
	polled   int // of messages, that are not in frames yet
	frames   net.Buffers
	size     int // of frames
	count    int // of messages in frames
	replayed int // those of them that a stream gets which has not caught up yet
	gaps     int // that are told in frames
}

func (b *batch) add(frame []byte) {
	if frame != nil {
		b.frames = append(b.frames, frame)
		b.size += len(frame)
	}
}

// reset takes note that the frames were written, or never will be.
func (b *batch) reset() {
	clear(b.frames)
	b.frames, b.size, b.count, b.replayed, b.gaps = b.frames[:0], 0, 0, 0, 0
}

// precede puts bytes before the first frame: into one buffer with it, since that goes
// out in a simpler way than two.
func (b *batch) precede(bytes []byte) {
	b.size += len(bytes)
	if len(b.frames) == 0 {
		b.frames = append(b.frames, bytes)
		return
	}
	b.frames[0] = append(bytes[:len(bytes):len(bytes)], b.frames[0]...)
}

// minRoom is how many messages a stream polls at first.
const minRoom = 16

// maxWrite is how many bytes go out in one write at most (a larger message has several):
// each write has a deadline of its own, which a slow client must be able
// to keep.
const maxWrite = 64 << 10

// MaxUnsent is what a connection has to be asked to hold at most (tcp.SetUnsent). The
// kernel takes a segment's worth more, and lets a write go on when half of it is left.
const MaxUnsent = maxWrite

// batches hands out batches that hold nothing.
type batches struct{ pool sync.Pool }

func (p *batches) get() *batch {
	if b, ok := p.pool.Get().(*batch); ok {
		return b
	}
	return &batch{frames: make(net.Buffers, 0, 64)}
}

func (p *batches) put(b *batch) {
	clear(b.messages[:b.polled]) // the rest is clear: see encode and write
	b.polled = 0
	b.reset()
	if cap(b.frames) <= 1024 {
		p.pool.Put(b)
	}
}
