package natsjournal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publisher sends entries and receives the engine's answers, all on one subscription. It
// does what nats.go's asynchronous publishing does, without a timer, a channel and a map
// entry for each message.
type publisher struct {
	// Set when it is created.
	conn  *nats.Conn
	inbox string // the beginning of the subjects on which the engine answers

	mu     sync.Mutex // guards the fields below
	rounds map[string]*round
	last   uint64 // number of the newest round
}

// round is entries that are sent together.
type round struct {
	number  string        // in the subjects of its answers
	answers []answer      // of each entry; guarded by publisher.mu until the round is over
	left    int           // answers still to come; guarded by publisher.mu
	done    chan struct{} // closed once there are none
}

// answer is what the engine said to one entry.
type answer struct {
	seq       uint64 // 0: err says why
	duplicate bool   // it had the entry already
	err       error
}

var errNoAnswer = errors.New("the engine did not answer")

// publisher returns the Journal's, whose subscription lasts until Conn is closed.
func (j *Journal) publisher() (*publisher, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.publishing != nil {
		return j.publishing, nil
	}
	p := &publisher{conn: j.Conn, inbox: j.Conn.NewInbox() + ".", rounds: make(map[string]*round)}
	sub, err := j.Conn.Subscribe(p.inbox+"*.*", p.receive)
	if err != nil {
		return nil, fmt.Errorf("natsjournal: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil { // there is one answer for each entry
		return nil, fmt.Errorf("natsjournal: %w", err)
	}
	j.publishing = p
	return p, nil
}

// send publishes entries in their order, waits for the answers, and returns one for each.
// It waits for at most requestTimeout, and no longer than the connection lasts: an answer
// that was lost with a connection does not come any more.
func (p *publisher) send(ctx context.Context, subject string, entries []*nats.Msg) []answer {
	r := p.begin(len(entries))
	reconnects := p.conn.Stats().Reconnects
	for i, entry := range entries {
		entry.Subject, entry.Reply = subject, p.inbox+r.number+"."+strconv.Itoa(i)
		if err := p.conn.PublishMsg(entry); err != nil {
			p.answer(r, i, answer{err: &unsentError{err}})
		}
	}
	ticker := time.NewTicker(retryPause)
	defer ticker.Stop()
	for began := time.Now(); ; {
		select {
		case <-r.done:
			return p.end(r, nil)
		case <-ctx.Done():
			return p.end(r, ctx.Err())
		case <-ticker.C:
			if time.Since(began) > requestTimeout || p.conn.Stats().Reconnects != reconnects || p.conn.IsClosed() {
				return p.end(r, errNoAnswer)
			}
		}
	}
}

func (p *publisher) begin(entries int) *round {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	r := &round{
		number:  strconv.FormatUint(p.last, 36),
		answers: make([]answer, entries),
		left:    entries,
		done:    make(chan struct{}),
	}
	p.rounds[r.number] = r
	return r
}

// end returns the answers of a round. Those that have not come are err.
func (p *publisher) end(r *round, err error) []answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rounds, r.number)
	for i, a := range r.answers {
		if a.seq == 0 && a.err == nil {
			r.answers[i].err = err
		}
	}
	return r.answers
}

// receive notes what the engine says to an entry. nats.go calls it for one message at a
// time.
func (p *publisher) receive(m *nats.Msg) {
	number, index, _ := strings.Cut(m.Subject[len(p.inbox):], ".")
	i, err := strconv.Atoi(index)
	if err != nil {
		return
	}
	p.mu.Lock()
	r := p.rounds[number]
	p.mu.Unlock()
	if r != nil && i >= 0 && i < len(r.answers) {
		p.answer(r, i, parseAnswer(m))
	}
}

func (p *publisher) answer(r *round, i int, a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.answers[i] != (answer{}) || p.rounds[r.number] != r {
		return // a second answer, or one that came too late
	}
	r.answers[i] = a
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

// unsentError says that an entry did not leave the process.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// parseAnswer reads an acknowledgement. The most frequent form, with a sequence and
// nothing else to know, is read without encoding/json.
func parseAnswer(m *nats.Msg) answer {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return answer{err: jetstream.ErrNoStreamResponse}
	}
	if seq, ok := parseSequence(m.Data); ok {
		return answer{seq: seq}
	}
	var ack struct {
		Sequence  uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
		Error     *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &ack); {
	case err != nil:
		return answer{err: fmt.Errorf("reading an acknowledgement: %w", err)}
	case ack.Error != nil:
		return answer{err: ack.Error}
	case ack.Sequence == 0:
		return answer{err: errNoAnswer}
	}
	return answer{seq: ack.Sequence, duplicate: ack.Duplicate}
}

var (
	sequenceKey  = []byte(`"seq":`)
	errorKey     = []byte(`"error"`)
	duplicateKey = []byte(`"duplicate"`)
)

// parseSequence returns the sequence in an acknowledgement that says nothing unusual. A
// quoted key cannot be part of a JSON string, where quotes are escaped.
func parseSequence(data []byte) (seq uint64, ok bool) {
	_, digits, found := bytes.Cut(data, sequenceKey)
	if !found || bytes.Contains(data, errorKey) || bytes.Contains(data, duplicateKey) {
		return 0, false
	}
	n := 0
	for n < len(digits) && n < 19 && digits[n] >= '0' && digits[n] <= '9' {
		seq = seq*10 + uint64(digits[n]-'0')
		n++
	}
	if n == 0 || n == len(digits) || digits[n] != '}' && digits[n] != ',' {
		return 0, false
	}
	return seq, seq > 0
}
