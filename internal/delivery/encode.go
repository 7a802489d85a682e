package delivery

import (
	"log/slog"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// encode turns polled messages into frames, and writes whenever maxWrite bytes have
// accumulated, so that a client that does not read pins at most that much. It reports
// false once nothing more may be written.
//
// A message goes out with its ID only if the position, now that Poll has returned, is not
// before it: a client that is cut resumes after the newest ID that it has. So the Keys of a
// round and a beginning have no IDs.
func (s *Stream) encode(b *batch, w *Worker) bool {
	size, had, position := b.size, s.sentPosition.get(), s.sub.Position()
	due := s.bare // of earlier polls
	s.bare = false
	if s.grant.Filter != nil && b.polled > 0 {
		w.Wait() // it is the user's, and may block
	}
	for i, m := range b.messages[:b.polled] {
		size += len(m.Data)
		b.messages[i] = nil
		last := b.isLast(m)
		if !last && !s.begins {
			s.begin(b)
		}
		id := m.ID
		if last || isAfter(id, position) {
			id = broadcast.ID{}
		}
		frame := s.frame(m, id)
		if frame == nil {
			continue
		}
		if b.size > 0 && b.size+len(frame) > maxWrite && !s.write(b, w) {
			return false
		}
		b.addMessage(frame, s.catchingUp)
		switch {
		case !id.IsZero():
			s.sent(id)
			s.sentNews, s.bare = true, false
		case !last:
			s.bare = true
		}
	}
	if due {
		s.settle(b, had, position)
	}
	s.answerChange(b, position)
	s.catchingUp = s.catchingUp && b.polled == int(s.pollSize)
	s.setPollSize(b.polled, size)
	b.polled = 0
	return true
}

// setPollSize lets one Poll return about as much as one write takes: a message that
// waits here stays in memory even if the log has evicted it.
func (s *Stream) setPollSize(polled, size int) {
	switch {
	case size > maxWrite:
		s.pollSize = int16(max(1, polled*maxWrite/size))
	case polled == int(s.pollSize):
		s.pollSize = int16(min(4*polled, len(batch{}.messages)))
	}
}

// frame returns a message as it goes to this client, nil if it does not. It moves the
// client's position to id, or leaves it if id is zero.
func (s *Stream) frame(m *broadcast.Message, id broadcast.ID) []byte {
	if s.grant.Filter != nil && !s.passes(m) {
		return nil
	}
	return s.form(m, id).frame
}

// passes reports whether the Grant's Filter lets a message pass. Its panic drops the
// message, and is logged once for each message.
func (s *Stream) passes(m *broadcast.Message) (pass bool) {
	err := guard.Call("Grant.Filter", func() error {
		pass = s.grant.Filter(m)
		return nil
	})
	if err != nil && !s.form(m, m.ID).warned.Swap(true) {
		s.report(slog.LevelError, "dropped a message", "id", m.ID, "topic", m.Topic, "error", err)
	}
	return pass && err == nil
}
