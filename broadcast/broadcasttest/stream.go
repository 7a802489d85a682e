package broadcasttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// patience is how long the suites wait for what must come.
const patience = 10 * time.Second

// background is a context for a call that must return in time.
func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// publish publishes one message of text.
func publish(t *testing.T, b broadcast.Broadcaster, topic, data string) broadcast.ID {
	t.Helper()
	id, err := b.Publish(background(t), broadcast.Message{Topic: topic, Data: []byte(data)})
	require.NoError(t, err, "Publish")
	require.Greater(t, id.Epoch(), uint64(1), "the epoch of a published message")
	return id
}

// tryPublish is publish for goroutines other than the test's.
func tryPublish(t *testing.T, b broadcast.Broadcaster, topic, data string) (broadcast.ID, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := b.Publish(ctx, broadcast.Message{Topic: topic, Data: []byte(data)})
	return id, assert.NoError(t, err, "Publish")
}

// publishMany publishes the messages "<topic> 0" to "<topic> n-1".
func publishMany(t *testing.T, b broadcast.Broadcaster, topic string, n int) []broadcast.ID {
	t.Helper()
	ids := make([]broadcast.ID, n)
	for i := range ids {
		ids[i] = publish(t, b, topic, fmt.Sprint(topic, " ", i))
	}
	return ids
}

// many are the texts of publishMany, from one to before another.
func many(topic string, from, to int) []string {
	texts := []string{}
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint(topic, " ", i))
	}
	return texts
}

func texts(ms []*broadcast.Message) []string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = string(m.Data)
	}
	return texts
}

// arrive waits until subscriptions find the message with an ID.
func arrive(t *testing.T, b broadcast.Broadcaster, topic string, id broadcast.ID) {
	t.Helper()
	before := broadcast.MakeID(id.Epoch(), id.Seq()-1)
	s := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{topic}, After: before})
	s.until(id)
	s.close()
}

// stream is a subscription of one case. Whatever it polls is checked for what
// holds of every Poll.
type stream struct {
	t     *testing.T
	sub   broadcast.Subscription
	begin broadcast.ID // its first Position
	news  chan struct{}
	calls atomic.Int64 // of Notify
	last  broadcast.ID // of the newest message returned
	gaps  int          // told so far
}

// subscribe opens a subscription, closed at the end of the case. Its Notify
// calls that of opts, if there is one.
func subscribe(t *testing.T, b broadcast.Broadcaster, opts broadcast.SubscribeOptions) *stream {
	t.Helper()
	s := &stream{t: t, news: make(chan struct{}, 1)}
	notify := opts.Notify
	opts.Notify = func() {
		s.calls.Add(1)
		select {
		case s.news <- struct{}{}:
		default:
		}
		if notify != nil {
			notify()
		}
	}
	sub, err := b.Subscribe(background(t), opts)
	require.NoError(t, err, "Subscribe")
	require.NotNil(t, sub, "the subscription")
	s.sub = sub
	t.Cleanup(func() { sub.Close() })
	s.begin = sub.Position()
	require.False(t, s.begin.IsZero(), "Position is the zero ID")
	return s
}

// listen subscribes from now on, and polls once so that Notify is armed.
func listen(t *testing.T, b broadcast.Broadcaster, topics ...string) *stream {
	t.Helper()
	s := subscribe(t, b, broadcast.SubscribeOptions{Topics: topics})
	s.empty()
	return s
}

// resume subscribes behind an ID.
func resume(t *testing.T, b broadcast.Broadcaster, after broadcast.ID, topics ...string) *stream {
	t.Helper()
	return subscribe(t, b, broadcast.SubscribeOptions{Topics: topics, After: after})
}

func (s *stream) close() { s.sub.Close() }

// poll calls Poll once.
func (s *stream) poll(size int) ([]*broadcast.Message, error) {
	s.t.Helper()
	before := s.sub.Position()
	buf := make([]*broadcast.Message, size)
	n, err := s.sub.Poll(buf)
	require.GreaterOrEqual(s.t, n, 0, "the number of messages")
	require.LessOrEqual(s.t, n, size, "the number of messages in a buffer")
	ms, position := buf[:n], s.sub.Position()
	require.False(s.t, position.IsZero(), "Position is the zero ID")
	for _, m := range ms {
		require.NotNil(s.t, m, "a message")
		if m.ID.Epoch() == s.last.Epoch() {
			require.Greater(s.t, m.ID.Seq(), s.last.Seq(), "the sequence of a message (%q) behind that of the one before it", m.Data)
		}
		s.last = m.ID
		require.Equal(s.t, position.Epoch(), m.ID.Epoch(), "the epoch of a message")
		if err == nil && m.ID.Epoch() == before.Epoch() && m.ID.Seq() > s.begin.Seq() {
			// Up to where it began there are the Last messages only.
			require.Greater(s.t, m.ID.Seq(), before.Seq(), "the sequence of a message, and that of Position before the Poll")
		}
		require.GreaterOrEqual(s.t, position.Seq(), m.ID.Seq(), "Position's sequence and that of a message returned")
	}
	if err == nil || errors.Is(err, broadcast.ErrClosed) {
		require.True(s.t, err == nil || n == 0, "ErrClosed together with messages")
		return ms, err
	}
	require.ErrorIs(s.t, err, broadcast.ErrGap, "the error of Poll")
	var gap *broadcast.GapError
	require.ErrorAs(s.t, err, &gap, "the error of Poll")
	s.gaps++
	if n > 0 {
		require.Equal(s.t, broadcast.MakeID(ms[0].ID.Epoch(), ms[0].ID.Seq()-1), gap.ID, "GapError.ID and the first message that follows")
	} else {
		require.Equal(s.t, position, gap.ID, "GapError.ID where nothing follows, and Position")
	}
	return ms, err
}

// next polls until there is something, and sleeps until Notify in between.
func (s *stream) next() ([]*broadcast.Message, error) {
	s.t.Helper()
	for {
		ms, err := s.poll(64)
		if len(ms) > 0 || err != nil {
			return ms, err
		}
		waitFor(s.t, s.news, "a call of Notify")
	}
}

// forget forgets the calls of Notify so far.
func (s *stream) forget() {
	select {
	case <-s.news:
	default:
	}
}

// until returns all messages up to the one with an ID.
func (s *stream) until(id broadcast.ID) []*broadcast.Message {
	s.t.Helper()
	var all []*broadcast.Message
	for s.last != id {
		ms, err := s.next()
		require.NotErrorIs(s.t, err, broadcast.ErrClosed, "before message %v", id)
		all = append(all, ms...)
		for _, m := range ms {
			require.False(s.t, m.ID.Epoch() == id.Epoch() && m.ID.Seq() > id.Seq(), "message %v came without message %v", m.ID, id)
		}
	}
	return all
}

// count returns the next n messages.
func (s *stream) count(n int) []*broadcast.Message {
	s.t.Helper()
	var all []*broadcast.Message
	for len(all) < n {
		ms, err := s.poll(n - len(all))
		if len(ms) == 0 && err == nil {
			waitFor(s.t, s.news, "a call of Notify")
			continue
		}
		require.NoError(s.t, err)
		all = append(all, ms...)
	}
	return all
}

// exactly checks that what comes up to the message with an ID are these, without
// a gap, and that nothing comes behind it.
func (s *stream) exactly(id broadcast.ID, want []string, msgAndArgs ...any) {
	s.t.Helper()
	gaps := s.gaps
	require.Equal(s.t, want, texts(s.until(id)), msgAndArgs...)
	require.Equal(s.t, gaps, s.gaps, "gaps told")
	s.empty()
}

// empty checks that nothing is left.
func (s *stream) empty() {
	s.t.Helper()
	ms, err := s.poll(64)
	require.NoError(s.t, err, "Poll of a drained subscription")
	require.Empty(s.t, texts(ms), "Poll of a drained subscription")
}

// gap checks that the first thing to come is a gap, and returns what comes
// with it.
func (s *stream) gap() ([]*broadcast.Message, *broadcast.GapError) {
	s.t.Helper()
	ms, err := s.next()
	var gap *broadcast.GapError
	require.ErrorAs(s.t, err, &gap, "with the messages %q", texts(ms))
	return ms, gap
}

// ended checks that the subscription has ended.
func (s *stream) ended() {
	s.t.Helper()
	for range 2 {
		_, err := s.poll(64)
		require.ErrorIs(s.t, err, broadcast.ErrClosed, "Poll after the end")
	}
}

// within runs f beside the case and checks that it returns in time.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	waitFor(t, done, what)
}

func waitFor(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		require.Fail(t, "too slow", "waited %v for %s", patience, what)
	}
}

// flow lets a publisher be ahead of a reader by a bounded number of messages, so
// that the reader cannot be overrun.
type flow struct {
	places     chan struct{}
	quit       chan struct{} // closed at the end of the case
	publishers sync.WaitGroup
}

func newFlow(t *testing.T, ahead int) *flow {
	f := &flow{places: make(chan struct{}, ahead), quit: make(chan struct{})}
	t.Cleanup(func() {
		close(f.quit)
		f.publishers.Wait()
	})
	return f
}

// take waits for a place, and reports whether there is one.
func (f *flow) take() bool {
	select {
	case f.places <- struct{}{}:
		return true
	case <-f.quit:
		return false
	}
}

// give frees the places of what was read.
func (f *flow) give(n int) {
	for range n {
		<-f.places
	}
}

// inBackground publishes texts to topics in turn, as far as the flow allows. The
// IDs come when all are published.
func (f *flow) inBackground(t *testing.T, b broadcast.Broadcaster, topics []string, texts []string) <-chan []broadcast.ID {
	done := make(chan []broadcast.ID, 1)
	f.publishers.Go(func() {
		var ids []broadcast.ID
		defer func() { done <- ids }()
		for i, text := range texts {
			if !f.take() {
				return
			}
			id, ok := tryPublish(t, b, topics[i%len(topics)], text)
			if !ok {
				return
			}
			ids = append(ids, id)
		}
	})
	return done
}
