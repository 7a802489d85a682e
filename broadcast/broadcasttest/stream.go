package broadcasttest

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// stream is a subscription of one case. It checks the rules that hold for every Poll.
type stream struct {
	t     *testing.T
	sub   broadcast.Subscription
	begin broadcast.ID // its first Position

	// Set by Notify.
	notified chan struct{} // has an element if Notify was called
	calls    atomic.Int64  // how often it was called

	// Set by poll.
	last broadcast.ID // of the newest message returned
	gaps int          // how many there were
}

// subscribe opens a subscription that is closed at the end of the case. Its Notify also calls
// that of opts.
func subscribe(t *testing.T, b broadcast.Broadcaster, opts broadcast.SubscribeOptions) *stream {
	t.Helper()
	s := &stream{t: t, notified: make(chan struct{}, 1)}
	notify := opts.Notify
	opts.Notify = func() {
		s.calls.Add(1)
		select {
		case s.notified <- struct{}{}:
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

// listen subscribes from now on and polls once, which arms Notify.
func listen(t *testing.T, b broadcast.Broadcaster, topics ...string) *stream {
	t.Helper()
	s := subscribe(t, b, broadcast.SubscribeOptions{Topics: topics})
	s.empty()
	return s
}

// resume subscribes after an ID.
func resume(t *testing.T, b broadcast.Broadcaster, after broadcast.ID, topics ...string) *stream {
	t.Helper()
	return subscribe(t, b, broadcast.SubscribeOptions{Topics: topics, After: after})
}

func (s *stream) close() { s.sub.Close() }

// poll calls Poll once, and checks what it returns.
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
			require.Greater(s.t, m.ID.Seq(), s.last.Seq(), "the sequence of message %q and that of the message before it", m.Data)
		}
		s.last = m.ID
		require.Equal(s.t, position.Epoch(), m.ID.Epoch(), "the epoch of a message")
		if err == nil && m.ID.Epoch() == before.Epoch() && m.ID.Seq() > s.begin.Seq() {
			// Messages up to begin are those that SubscribeOptions.Last asked for.
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

// next polls until there is something, and waits for Notify in between.
func (s *stream) next() ([]*broadcast.Message, error) {
	s.t.Helper()
	for {
		ms, err := s.poll(64)
		if len(ms) > 0 || err != nil {
			return ms, err
		}
		waitFor(s.t, s.notified, "a call of Notify")
	}
}

// forgetNotify forgets that Notify was called.
func (s *stream) forgetNotify() {
	select {
	case <-s.notified:
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
			waitFor(s.t, s.notified, "a call of Notify")
			continue
		}
		require.NoError(s.t, err)
		all = append(all, ms...)
	}
	return all
}

// exactly checks that the messages up to the one with an ID are the wanted ones, without a
// gap, and that nothing follows.
func (s *stream) exactly(id broadcast.ID, want []string, msgAndArgs ...any) {
	s.t.Helper()
	gaps := s.gaps
	require.Equal(s.t, want, texts(s.until(id)), msgAndArgs...)
	require.Equal(s.t, gaps, s.gaps, "the number of gaps")
	s.empty()
}

// empty checks that nothing is left.
func (s *stream) empty() {
	s.t.Helper()
	ms, err := s.poll(64)
	require.NoError(s.t, err, "Poll of a drained subscription")
	require.Empty(s.t, texts(ms), "Poll of a drained subscription")
}

// gap checks that a gap comes first, and returns it with its messages.
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
