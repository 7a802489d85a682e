package delivery

import (
	"net"
	"sync"

	"github.com/fanfare-go/fanfare/broadcast"
)

// batch is what one poll found, on its way to the connection.
type batch struct {
	messages [256]*broadcast.Message
	polled   int // how many of messages are not in frames yet

	frames   net.Buffers
	size     int  // bytes of frames
	count    int  // messages in frames
	replayed int  // those of them that go to a stream which has not caught up yet
	gaps     int  // gaps in frames
	isFirst  bool // frames are the first of the stream

	// Of the stream's first turn, which does not end before it has begun.
	beginning   bool         // the position has not been sent yet
	beginsAfter broadcast.ID // that position: messages up to there come first
}

// add adds a frame, if there is one.
func (b *batch) add(frame []byte) {
	if frame != nil {
		b.frames = append(b.frames, frame)
		b.size += len(frame)
	}
}

func (b *batch) addMessage(frame []byte, replayed bool) {
	b.add(frame)
	b.count++
	if replayed {
		b.replayed++
	}
}

// reset empties the batch of its frames after they were written or dropped.
func (b *batch) reset() {
	clear(b.frames)
	b.frames, b.size, b.count, b.replayed, b.gaps, b.isFirst = b.frames[:0], 0, 0, 0, 0, false
}

// drop empties the batch of messages that will not be sent.
func (b *batch) drop() {
	clear(b.messages[:])
	b.polled = 0
}

// precede puts bytes before the first frame: into one buffer with it, since a single
// buffer can be written without blocking the worker.
func (b *batch) precede(bytes []byte) {
	b.size += len(bytes)
	if len(b.frames) == 0 {
		b.frames = append(b.frames, bytes)
		return
	}
	b.frames[0] = append(bytes[:len(bytes):len(bytes)], b.frames[0]...)
}

// minPoll is how many messages a stream polls at first.
const minPoll = 16

// maxWrite is how many bytes go out in one write at most; a larger message takes
// several. Each write has a deadline of its own, which a slow client must be able to
// keep.
const maxWrite = 64 << 10

// MaxUnsent is how many unsent bytes the kernel is asked to keep for a connection at
// most (tcp.SetUnsent). It takes a segment's worth more, and lets a write go on when
// half of it is left.
const MaxUnsent = maxWrite

// batches is a pool of empty batches. A worker has one of its own while it runs.
type batches struct{ pool sync.Pool }

func (p *batches) get(w *Worker) *batch {
	if w != nil && w.batch != nil {
		b := w.batch
		w.batch = nil
		return b
	}
	if b, ok := p.pool.Get().(*batch); ok {
		return b
	}
	return &batch{frames: make(net.Buffers, 0, 64)}
}

func (p *batches) put(b *batch, w *Worker) {
	clear(b.messages[:b.polled]) // encode has cleared the others
	b.polled, b.beginning = 0, false
	b.reset()
	switch {
	case cap(b.frames) > 1024:
	case !w.waits() && w.batch == nil:
		w.batch = b
	default:
		p.pool.Put(b)
	}
}
