package broadcast_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// The tests in this file let publishers, streams and those who close streams
// run at the same time, and then check what each client was written:
// everything on its topics, once and in order, or a gap where something is
// missing. No stream may be left asleep.
//
// A stream here is driven as a WebSocket is: its writer is a goroutine that exists only
// while there is something to write.
var stressFor = flag.Duration("stress.for", 0, "how long each stress test goes on; if zero, 50ms, and 200ms with LONG=1")

// patience is how long a test waits for what happens at once unless it is lost.
const patience = time.Minute

func stressTime() time.Duration {
	switch {
	case *stressFor > 0:
		return *stressFor
	case longtest.Enabled():
		return 200 * time.Millisecond
	}
	return 50 * time.Millisecond
}

// scene is a number of topics and readers.
type scene struct {
	name      string
	keep      int
	keepBytes int64
	topics    int
	readers   int
	each      int  // how many topics a reader has
	plain     int  // how many readers have one topic instead
	closes    int  // one message in so many is followed by the end of a subscription; 0: 64
	gaps      bool // whether readers may be overrun
	reason    string
}

func TestStress(t *testing.T) {
	for _, sc := range []scene{
		{name: "one topic each", keep: 1 << 16, topics: 3, readers: 60, each: 1,
			reason: "a single cursor; most are woken by the waker"},
		{name: "the same two topics", keep: 1 << 16, topics: 2, readers: 60, each: 2,
			reason: "the order across topics hangs on wake-ups that are still under way"},
		{name: "some of several topics", keep: 1 << 16, topics: 7, readers: 50, each: 3,
			reason: "topics shared by different crowds"},
		{name: "fifty topics", keep: 1 << 16, topics: 50, readers: 24, each: 50,
			reason: "more cursors than topics underway, and the other way round"},
		{name: "one of several topics among many of one", keep: 1 << 16, topics: 2, readers: 41, plain: 40, each: 2, closes: 8,
			reason: "a topic becomes and ceases to be one of several of a reader while it is underway"},
		{name: "closed all the time", keep: 1 << 16, topics: 6, readers: 12, each: 4, closes: 1,
			reason: "a subscription may be closed in the middle of a Poll, and is woken no more"},
		{name: "overrun, one topic each", keep: 2, topics: 2, readers: 40, each: 1, gaps: true,
			reason: "the slot that is read is the one that is written"},
		{name: "overrun, several topics", keep: 3, topics: 5, readers: 40, each: 4, gaps: true,
			reason: "some topics lose what others still keep"},
		{name: "overrun by bytes", keep: 1 << 16, keepBytes: 5000, topics: 6, readers: 40, each: 3, gaps: true,
			reason: "a message on one topic evicts another's last one, and leaves a ring empty"},
	} {
		t.Run(sc.name, func(t *testing.T) {
			for began := time.Now(); time.Since(began) < stressTime() && !t.Failed(); {
				newStressRun(t, sc).run(t)
			}
		})
	}
}

// stressRun is a Hub, its readers, and what was published.
type stressRun struct {
	scene
	t       *testing.T
	ctx     context.Context
	hub     *broadcast.Hub
	names   []string
	readers []*stressReader
	arrived chan *stressReader // each reader, once it has the last message of the round on each of its topics

	mu  sync.Mutex
	log []int // the number of each message's topic, by sequence; -1 where there is none
}

func newStressRun(t *testing.T, sc scene) *stressRun {
	s := &stressRun{scene: sc, t: t, hub: &broadcast.Hub{Keep: sc.keep, KeepBytes: sc.keepBytes}}
	s.arrived = make(chan *stressReader, sc.readers)
	for i := range sc.topics {
		s.names = append(s.names, fmt.Sprintf("topic %d", i))
	}
	return s
}

// open starts the readers, each with topics of its own.
func (s *stressRun) open(cuts bool) {
	for i := range s.scene.readers {
		r := &stressReader{stressRun: s, number: i, cuts: cuts, rng: rand.New(rand.NewPCG(rand.Uint64(), 0)), ended: make(chan struct{}), has: make([]bool, s.topics)}
		each := s.each
		if i < s.plain {
			each = 1
		}
		for _, topic := range r.rng.Perm(s.topics)[:each] {
			r.has[topic] = true
			r.topics = append(r.topics, s.names[topic])
		}
		s.readers = append(s.readers, r)
		w := r.open()
		r.begin = r.position
		w.word.Store(wordIdle)
		w.notify()
	}
}

// run is a number of rounds. Each ends with a message on every topic, and lasts
// until each reader has those of its topics. By then the readers sleep, and the next
// round begins with waking them.
func (s *stressRun) run(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.ctx = ctx
	s.open(true)
	for range 12 {
		var publishers sync.WaitGroup
		for range 3 {
			rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
			publishers.Go(func() {
				for range rng.IntN(40) {
					s.publish(rng.IntN(s.topics), "")
					s.disturb(rng)
				}
			})
		}
		publishers.Wait()
		for half := range 2 {
			publishers.Go(func() {
				for topic := half; topic < s.topics; topic += 2 {
					s.publish(topic, "last")
				}
			})
		}
		publishers.Wait()
		for range s.readers {
			select {
			case <-s.arrived:
			case <-ctx.Done():
				// A reader whose position is past the message waits for it in vain, and
				// verify says so; the others are asleep.
				states := fmt.Sprint(s.readers)
				s.end(t)
				require.Fail(t, "a reader sleeps on", states)
			}
		}
	}
	s.end(t)
	assert.Zero(t, s.hub.Stats().Subscriptions)
	assert.NoError(t, s.hub.Close())
}

// end ends the readers, and checks what they got.
func (s *stressRun) end(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, r := range s.readers {
		// The order matters: a wire that is opened after this finds stop set.
		r.stop.Store(true)
		r.wire.Load().notify()
		s.wait(ctx, t, r)
	}
	s.verify(t)
}

func (s *stressRun) publish(topic int, kind string) bool {
	id, err := s.hub.Publish(s.ctx, broadcast.Message{Topic: s.names[topic], Type: kind, Data: []byte("data")})
	if err != nil {
		assert.ErrorIs(s.t, err, broadcast.ErrClosed)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for int(id.Seq()) >= len(s.log) {
		s.log = append(s.log, -1)
	}
	s.log[id.Seq()] = topic
	return true
}

// disturb does to a reader what may happen at any time: it is polled without need, as by a
// heartbeat, or its subscription is finished or closed.
func (s *stressRun) disturb(rng *rand.Rand) {
	r := s.readers[rng.IntN(len(s.readers))]
	if rng.IntN(4) == 0 {
		r = s.readers[len(s.readers)-1]
	}
	w := r.wire.Load()
	if rng.IntN(cmp.Or(s.closes, 64)) == 0 {
		if rng.IntN(4) == 0 {
			w.sub.(broadcast.Finisher).Finish() // which wakes it
		} else {
			assert.NoError(s.t, w.sub.Close())
			w.notify()
		}
	}
	switch rng.IntN(8) {
	case 0:
		w.notify()
	case 1:
		runtime.Gosched()
	}
}

func (s *stressRun) wait(ctx context.Context, t *testing.T, r *stressReader) {
	select {
	case <-r.ended:
	case <-ctx.Done():
		require.Fail(t, "a reader does not end", "%v", r)
	}
}

// wire is one connection of a reader. Its word is the state of its writer.
type wire struct {
	reader *stressReader
	sub    broadcast.Subscription
	word   atomic.Int32
}

const (
	wordIdle     = iota // there is no writer
	wordWriting         // there is one, and it knows of everything
	wordNotified        // there is one, and it has to poll once more
)

func (w *wire) notify() {
	if w.word.Swap(wordNotified) == wordIdle {
		go w.reader.write(w)
	}
}

// stressReader is a client: it comes back whenever it was cut.
type stressReader struct {
	stressRun *stressRun
	number    int
	topics    []string
	has       []bool // by the topic's number
	cuts      bool
	begin     broadcast.ID

	wire  atomic.Pointer[wire] // the one that is open
	stop  atomic.Bool
	ended chan struct{}

	// What follows belongs to the writer; there is never more than one.
	rng      *rand.Rand
	position broadcast.ID // what the client would come back with
	record   []written
	last     int // messages of the round's end
}

// written is something that was written to the client.
type written struct {
	what writtenKind
	seq  uint64 // of the message or the position; for a gap, of GapError.ID

	// Of a gap:
	topics []string
	head   uint64 // nothing after this can have been lost by then
}

type writtenKind int

const (
	wroteMessage writtenKind = iota
	wrotePosition
	wroteGap
)

func (w written) String() string {
	switch w.what {
	case wroteGap:
		return fmt.Sprintf("gap in %q, on after %d", w.topics, w.seq)
	case wrotePosition:
		return fmt.Sprintf("position %d", w.seq)
	}
	return fmt.Sprint(w.seq)
}

func (r *stressReader) String() string {
	return fmt.Sprintf("reader %d of %v: word %d\n", r.number, r.topics, r.wire.Load().word.Load())
}

// open connects, and resumes from what the client knows. It returns nil once the Hub is
// closed.
func (r *stressReader) open() *wire {
	w := &wire{reader: r}
	w.word.Store(wordWriting)
	yields := r.rng.IntN(3)
	sub, err := r.stressRun.hub.Subscribe(r.stressRun.t.Context(), broadcast.SubscribeOptions{Topics: r.topics, After: r.position, Notify: func() {
		for range yields {
			runtime.Gosched() // those that follow in the list are woken later
		}
		w.notify()
	}})
	if err != nil {
		assert.ErrorIs(r.stressRun.t, err, broadcast.ErrClosed)
		return nil
	}
	w.sub = sub
	if r.position.IsZero() {
		r.position = sub.Position()
	}
	r.wire.Store(w)
	return w
}

// write is the writer: it polls until nothing is left, and ends if it has not been notified
// meanwhile.
func (r *stressReader) write(w *wire) {
	buf := make([]*broadcast.Message, 1+r.rng.IntN(32))
	for {
		w.word.Store(wordWriting)
		for more := true; more; {
			if w, more = r.poll(w, buf); w == nil {
				close(r.ended)
				return
			}
		}
		if r.stop.Load() {
			// The word stays as it is: no other writer is started.
			assert.NoError(r.stressRun.t, w.sub.Close())
			close(r.ended)
			return
		}
		if w.word.CompareAndSwap(wordWriting, wordIdle) {
			return
		}
	}
}

// poll polls once and writes what there is, unless the client is cut in the
// middle. It returns the wire to go on with, nil at the end of all, and whether
// there may be more.
func (r *stressReader) poll(w *wire, buf []*broadcast.Message) (*wire, bool) {
	n, armed, err := pollAsStreamsDo(r.rng, w.sub, buf)
	var lost *broadcast.GapError
	switch {
	case errors.Is(err, broadcast.ErrClosed):
		// All that was polled has been written, whatever ended it.
		r.sendPosition(w)
		assert.NoError(r.stressRun.t, w.sub.Close())
		return r.open(), true
	case errors.As(err, &lost):
		r.position = lost.ID
		r.record = append(r.record, written{what: wroteGap, seq: lost.ID.Seq(), topics: lost.Topics, head: r.stressRun.hub.Stats().Position.Seq()})
	case err != nil:
		assert.NoError(r.stressRun.t, err)
	}
	for _, m := range buf[:n] {
		if r.cuts && r.rng.IntN(200) == 0 {
			assert.NoError(r.stressRun.t, w.sub.Close())
			return r.open(), true
		}
		r.position = m.ID
		r.record = append(r.record, written{what: wroteMessage, seq: m.ID.Seq()})
		if m.Type != "last" {
			continue
		}
		if r.last++; r.last == len(r.topics) {
			r.last = 0
			r.stressRun.arrived <- r
		}
	}
	if n == 0 && err == nil {
		r.sendPosition(w)
	}
	return w, !armed
}

// sendPosition sends the position, once all that was polled is written.
func (r *stressReader) sendPosition(w *wire) {
	r.position = w.sub.Position()
	r.record = append(r.record, written{what: wrotePosition, seq: r.position.Seq()})
}

// verify compares what the clients were written with what was published.
func (s *stressRun) verify(t *testing.T) {
	require.NotContains(t, s.log[1:], -1, "sequences rise by one")
	for _, r := range s.readers {
		r.verify(t, s.log)
	}
}

func (r *stressReader) verify(t *testing.T, log []int) {
	got := make([]bool, len(log))
	for _, w := range r.record {
		if w.what == wroteMessage {
			got[w.seq] = true
		}
	}
	reported := make([]bool, len(log)) // the client knows that these may be lost
	at := r.begin.Seq()
	for i, w := range r.record {
		fail := func(what string, seq uint64) {
			around := r.record[max(0, i-5):min(len(r.record), i+3)]
			require.Fail(t, what, "reader %d of %v, written %v at %d: %d; around it %v", r.number, r.topics, w, at, seq, around)
		}
		switch {
		case w.what == wroteMessage && (!r.has[log[w.seq]] || w.seq <= at), w.seq < at:
			fail("out of order", w.seq)
		case w.what == wroteGap && !r.stressRun.gaps:
			fail("a gap where nothing can be lost", w.seq)
		case w.what == wroteGap:
			r.applyGap(t, w, at, log, got, reported)
		}
		for seq := at + 1; seq <= w.seq; seq++ {
			switch {
			case !r.has[log[seq]] || reported[seq]:
			case !got[seq]:
				fail("lost in silence", seq)
			case w.what != wroteMessage || seq != w.seq:
				fail("a position past a message that comes later", seq)
			}
		}
		at = w.seq
	}
}

// applyGap marks what a gap reports as lost, and checks that each topic it names has lost
// something.
func (r *stressReader) applyGap(t *testing.T, w written, at uint64, log []int, got, reported []bool) {
	named := w.topics
	if named == nil {
		named = r.topics
	}
	for _, name := range named {
		require.Contains(t, r.topics, name)
		lost := false
		for seq := at + 1; seq <= w.head; seq++ {
			if r.stressRun.names[log[seq]] == name && !got[seq] {
				reported[seq], lost = true, true
			}
		}
		require.True(t, lost, "reader %d: a gap in %s, which lost nothing after %d", r.number, name, at)
	}
}

// A Hub that is closed under load returns what it has: each reader gets all of it, and then
// the end.
func TestStressHubClose(t *testing.T) {
	for _, sc := range []scene{
		{name: "one topic each", keep: 1 << 16, topics: 3, readers: 60, each: 1, reason: "the end finds them in all states"},
		{name: "several topics", keep: 1 << 16, topics: 6, readers: 40, each: 4, reason: "the end lies between messages of different topics"},
		{name: "overrun", keep: 2, topics: 3, readers: 40, each: 2, gaps: true, reason: "the end may be lost as well"},
	} {
		t.Run(sc.name, func(t *testing.T) {
			for began := time.Now(); time.Since(began) < stressTime() && !t.Failed(); {
				closeUnderLoad(t, newStressRun(t, sc))
			}
		})
	}
}

func closeUnderLoad(t *testing.T, s *stressRun) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.ctx = ctx
	s.open(false)
	var publishers sync.WaitGroup
	var published atomic.Int32
	enough := make(chan struct{})
	for range 3 {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
		publishers.Go(func() {
			for s.publish(rng.IntN(s.topics), "") {
				if published.Add(1) == 500 {
					close(enough)
				}
			}
		})
	}
	<-enough
	assert.NoError(t, s.hub.Close())
	publishers.Wait()
	for _, r := range s.readers {
		s.wait(ctx, t, r)
		assert.EqualValues(t, len(s.log)-1, r.record[len(r.record)-1].seq, "the last position that is sent is the head")
	}
	s.verify(t)
}
