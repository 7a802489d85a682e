package ws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/ondemand"
)

// inbox reads what a Handler's client sends, and passes it to Receive's function, one
// message after the other. It reads on while the function runs, so that control frames
// are answered, but only as many bytes ahead as its budget allows.
type inbox struct {
	// Set before serve.
	conn    *Conn
	stream  *delivery.Stream
	engine  *delivery.Engine
	receive func(MessageType, []byte) error // nil: the client may not send messages
	change  bool                            // the client may ask for other topics
	most    int64                           // bytes of messages that wait

	// Owned by the goroutine that reads.
	rate     *rate     // nil: no limit
	receiver *receiver // nil before the first message for receive

	failed atomic.Bool // receive has returned an error, and gets no more messages
}

func newInbox(c *Conn, s *delivery.Stream, engine *delivery.Engine, o Options) *inbox {
	most := o.MaxMessage
	if most < 0 {
		most = defaultMaxMessage
	}
	in := &inbox{conn: c, stream: s, engine: engine, most: most, change: s.MayChange()}
	if o.MessageRate != 0 {
		in.rate = &rate{perSecond: o.MessageRate}
	}
	return in
}

// serve reads until the connection has ended, and returns when the stream has ended and
// receive has got what was read before.
func (in *inbox) serve() {
	in.read()
	<-in.stream.Done()
	if in.receiver != nil {
		in.receiver.waiting.Wait()
	}
}

// read reads until the connection has ended, and then ends the stream. Once the stream
// ends for another reason, it discards what comes.
func (in *inbox) read() {
	for {
		typ, data, err := in.conn.Read(context.Background())
		switch {
		case err != nil:
			in.stream.End(endOfReading(err))
			return
		case in.conn.phase.load() != open:
		case in.receive == nil && !in.change:
			in.stream.End(refusal("no message is expected"))
		case !in.rate.allows(time.Now()):
			in.stream.End(refusal("too many messages"))
		default:
			in.dispatch(received{typ: typ, data: data})
		}
	}
}

func refusal(text string) delivery.Reason {
	return delivery.Reason{Name: text, Code: int(StatusPolicyViolation), Text: text}
}

// dispatch passes a message on to the stream if it asks for other topics, else to
// receive.
func (in *inbox) dispatch(r received) {
	if in.change && r.typ == Text {
		if topics, ok := parseTopics(r.data); ok {
			in.stream.Change(topics)
			return
		}
	}
	if in.receive == nil {
		in.stream.End(refusal("no such message is expected"))
		return
	}
	if in.receiver == nil {
		in.receiver = &receiver{inbox: in, budget: newBudget(in.most)}
	}
	began := time.Now()
	if in.receiver.put(r) {
		in.rate.forgive(time.Since(began)) // what the client has sent meanwhile is read at once
	}
}

// parseTopics returns the topics that a client asks for. An object with any other field
// is not such a request.
func parseTopics(data []byte) (topics []string, ok bool) {
	if !bytes.Contains(data, []byte(`"topics"`)) {
		return nil, false
	}
	var request struct {
		Topics *[]string `json:"topics"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&request) != nil || d.More() || request.Topics == nil {
		return nil, false
	}
	return *request.Topics, true
}

// fail ends the stream with an error of receive, which gets no more messages.
func (in *inbox) fail(err error) {
	in.failed.Store(true)
	why := endOfReceive(err)
	if why == delivery.Fault {
		phase := in.conn.phase.load()
		_, isPanic := errors.AsType[*guard.PanicError](err)
		gone := !isPanic && (phase == refusing || phase == dead)
		level := slog.LevelError
		if gone {
			level = slog.LevelDebug // receive could not answer a client that has left, or is refused
		}
		in.engine.Report(level, "Handler.Receive", "error", err)
		if gone {
			return // read ends the stream, with the reason for which the connection has ended
		}
	}
	in.conn.phase.to(ending)
	in.stream.End(why)
}

// receiver calls receive for the messages of one client, in a goroutine that exists
// only while messages wait.
type receiver struct {
	inbox   *inbox
	budget  *budget
	queue   ondemand.Queue[received]
	waiting sync.WaitGroup // for the messages in the queue, and the one that receive has
}

// put appends a message, and waits until the budget allows it. It reports whether it
// had to wait.
func (q *receiver) put(r received) (waited bool) {
	waited = q.budget.acquire(r.size(), q.inbox.conn.ctx.Done())
	q.waiting.Add(1)
	q.queue.Put(r, 1, q)
	return waited
}

// Work implements [ondemand.Worker].
func (q *receiver) Work() {
	for r, ok := q.queue.Take(); ok; r, ok = q.queue.Take() {
		if !q.inbox.failed.Load() {
			if err := guard.Call("Receive", func() error { return q.inbox.receive(r.typ, r.data) }); err != nil {
				q.inbox.fail(err)
			}
		}
		q.budget.release(r.size())
		q.waiting.Done()
	}
}
