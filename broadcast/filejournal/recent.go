package filejournal

import (
	"strings"

	"github.com/fanfare-go/fanfare/broadcast"
)

// recent has the newest messages, so that a Tail at the end of the log does not read them
// from the disk.
type recent struct {
	messages []broadcast.Message // their sequences follow each other
	bytes    int
}

const (
	recentMessages = 1024
	recentBytes    = 1 << 20
)

// add appends a message. The oldest ones make room for it, half of them at a time.
func (r *recent) add(m broadcast.Message) {
	if n := len(r.messages); n > 0 && (n >= recentMessages || r.bytes+len(m.Data) > recentBytes) {
		kept := r.messages[n-n/2:]
		r.messages = append(make([]broadcast.Message, 0, recentMessages), kept...)
		r.bytes = 0
		for i := range r.messages {
			r.bytes += len(r.messages[i].Data)
		}
		for len(r.messages) > 0 && r.bytes+len(m.Data) > recentBytes {
			r.bytes -= len(r.messages[0].Data)
			r.messages = r.messages[1:]
		}
	}
	// Names from a request may be parts of its URL, which they would pin as a whole.
	before := broadcast.Message{}
	if n := len(r.messages); n > 0 {
		before = r.messages[n-1]
	}
	m.Topic, m.Type, m.From = own(m.Topic, before.Topic), own(m.Type, before.Type), own(m.From, before.From)
	r.messages = append(r.messages, m)
	r.bytes += len(m.Data)
}

// own returns a copy of a name, or one that is equal.
func own(name, other string) string {
	if name == other {
		return other
	}
	return strings.Clone(name)
}

// after returns the messages after a sequence, if it has all of them. The caller must not
// change them.
func (r *recent) after(seq uint64) []broadcast.Message {
	if len(r.messages) == 0 {
		return nil
	}
	if first := r.messages[0].ID.Seq(); seq+1 >= first && seq+1-first < uint64(len(r.messages)) {
		return r.messages[seq+1-first:]
	}
	return nil
}
