package delivery_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/internal/delivery"
)

func TestSignal(t *testing.T) {
	for _, test := range []struct {
		name   string
		from   int32
		call   func(*delivery.Signal) bool
		report bool
		to     int32
	}{
		{"a notification starts a writer that rests", delivery.Idle, (*delivery.Signal).Notify, true, delivery.Notified},
		{"a writer that runs is not started again", delivery.Writing, (*delivery.Signal).Notify, false, delivery.Notified},
		{"nor one that is about to", delivery.Notified, (*delivery.Signal).Notify, false, delivery.Notified},
		{"a writer rests if nothing was notified", delivery.Writing, (*delivery.Signal).Rest, true, delivery.Idle},
		{"and does not otherwise", delivery.Notified, (*delivery.Signal).Rest, false, delivery.Notified},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s delivery.Signal
			s.SetState(test.from)
			assert.Equal(t, test.report, test.call(&s))
			assert.Equal(t, test.to, s.State())
		})
	}
	var s delivery.Signal
	assert.False(t, s.Notify(), "nothing starts a writer for a stream that has not begun")
}

// signalState is everything that the model of TestSignalInterleavings knows: the word,
// how many messages wait, what each publisher does next, and where each writer is.
type signalState struct {
	word       int32
	waiting    int
	publishers [2]int8 // 0: publish, 1: notify, 2: done
	writers    int     // that run
	at         int8    // of the one writer: 0: begin, 1: poll, 2: rest
}

// No interleaving of two publishers and the writer loses a wake-up, or runs two
// writers: once nothing can move any more, no message waits.
func TestSignalInterleavings(t *testing.T) {
	seen := map[signalState]bool{}
	var explore func(s signalState)
	step := func(s signalState, call func(*delivery.Signal) bool) (signalState, bool) {
		var word delivery.Signal
		word.SetState(s.word)
		reported := call(&word)
		s.word = word.State()
		return s, reported
	}
	explore = func(s signalState) {
		if seen[s] {
			return
		}
		seen[s] = true
		moved := false
		for i, at := range s.publishers {
			switch at {
			case 0:
				n := s
				n.waiting++
				n.publishers[i] = 1
				explore(n)
			case 1:
				n, start := step(s, (*delivery.Signal).Notify)
				n.publishers[i] = 2
				if start {
					n.writers, n.at = n.writers+1, 0
				}
				explore(n)
			default:
				continue
			}
			moved = true
		}
		if s.writers > 0 {
			moved = true
			n := s
			switch s.at {
			case 0:
				n, _ = step(s, func(s *delivery.Signal) bool { s.Begin(); return true })
				n.at = 1
			case 1:
				if n.at = 2; n.waiting > 0 {
					n.waiting, n.at = n.waiting-1, 1
				}
			case 2:
				var rests bool
				if n, rests = step(s, (*delivery.Signal).Rest); rests {
					n.writers--
				}
				n.at = 0
			}
			explore(n)
		}
		assert.LessOrEqual(t, s.writers, 1, fmt.Sprintf("%+v", s))
		if !moved {
			assert.Zero(t, s.waiting, fmt.Sprintf("a wake-up is lost: %+v", s))
		}
	}
	explore(signalState{word: delivery.Idle})
	explore(signalState{word: delivery.Writing, writers: 1})
	assert.Greater(t, len(seen), 50)
}
