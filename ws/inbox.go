package ws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// inbox reads what a Handler's client sends, and passes it to Receive's function, one
// message after the other. It reads on while the function runs, so that control frames
// are answered, but only as many bytes ahead as its budget allows. It reads in a goroutine
// that exists all the time (serve), or only while there is something to read (see watched).
type inbox struct {
	// Set before serve.
	conn    *Conn
	stream  *delivery.Stream
	engine  *delivery.Engine
	receive func(MessageType, []byte) error // nil: the client may not send messages
	changes bool                            // the Grant lets the client ask for other topics
	topics  bool                            // a request for other topics is one, and no message for receive
	renews  bool                            // a token is one, and no message for receive
	most    int64                           // bytes of messages that wait
	rate    float64                         // messages a second; 0: no limit
	watched watched

	// Of any goroutine.
	receiver atomic.Pointer[receiver] // nil before the first message that waits; set by the goroutine that reads
	ended    atomic.Bool              // the stream was asked to end: what comes now is discarded
	failed   atomic.Bool              // receive has returned an error, and gets no more messages
	closed   atomic.Bool              // Close was called, and receive gets no more messages
}

// newInbox returns the inbox of a stream. The client's requests for other topics are
// answered if answers is set: else only those that its Grant allows are not for receive.
func newInbox(c *Conn, s *delivery.Stream, engine *delivery.Engine, o Options, answers bool) *inbox {
	most := o.MaxMessage
	if most < 0 {
		most = defaultMaxMessage
	}
	changes := s.MayChange()
	in := &inbox{conn: c, stream: s, engine: engine, most: most, changes: changes, topics: answers || changes, renews: s.MayRenew(), rate: o.MessageRate}
	c.reading.inbox = in
	return in
}

// serve reads until the connection has ended, and returns when the stream has ended and
// receive has got what was read before.
func (in *inbox) serve() {
	in.read()
	<-in.stream.Done()
	if q := in.receiver.Load(); q != nil {
		<-q.idle()
	}
}

// read reads until the connection has ended, and then ends the stream. Once the stream
// ends for another reason, it discards what comes.
func (in *inbox) read() {
	for {
		typ, data, err := in.conn.Read(context.Background())
		if !in.take(received{typ, data, err}) {
			return
		}
	}
}

// take takes what was read. It reports false if that is the end.
func (in *inbox) take(r received) bool {
	switch {
	case r.err != nil:
		in.stream.End(endOfReading(r.err))
		return false
	case !in.ended.Load() && in.conn.phase.load() == open:
		in.dispatch(r)
	}
	return true
}

func refusal(text string) delivery.Reason {
	return delivery.Reason{Name: text, Code: int(StatusPolicyViolation), Text: text}
}

// dispatch passes a message on to the stream if it asks for other topics, else to
// receive. Where the rate is limited all of them wait for their turn.
func (in *inbox) dispatch(r received) {
	m := incomingMessage{received: r}
	if in.topics && r.typ == Text {
		m.wanted = parseTopics(r.data)
	}
	if in.renews && r.typ == Text {
		m.token = parseToken(r.data)
	}
	forStream := m.wanted != nil || m.token != nil
	switch {
	case forStream && in.rate == 0:
		in.handle(m)
		return
	case !forStream && in.receive == nil && (in.changes || in.renews):
		in.end(refusal("no such message is expected"))
		return
	case !forStream && in.receive == nil:
		in.end(refusal("no message is expected"))
		return
	}
	q := in.receiver.Load()
	if q == nil {
		q = newReceiver(in)
		in.receiver.Store(q)
	}
	q.put(m)
}

// handle handles a message in its turn.
func (in *inbox) handle(m incomingMessage) {
	switch {
	case in.failed.Load(), in.closed.Load():
	case m.token != nil:
		in.stream.Renew(*m.token)
	case m.wanted != nil:
		in.stream.Change(*m.wanted)
	default:
		if err := guard.Call("Receive", func() error { return in.receive(m.typ, m.data) }); err != nil {
			in.fail(err)
		}
	}
}

// beforeEnd is called before the reading goes on to what ends the connection. An error of
// receive ends it first.
func (in *inbox) beforeEnd() {
	timeout := time.After(in.conn.timeout)
	in.drain(timeout)
	if in.failed.Load() {
		select {
		case <-in.stream.Done():
		case <-in.conn.ctx.Done():
		case <-timeout:
		}
	}
}

// drain waits until receive has handled all messages that were read, so that its answers
// go out before a close frame. It waits no longer than the connection can be written to,
// and not after timeout.
func (in *inbox) drain(timeout <-chan time.Time) {
	q := in.receiver.Load()
	if q == nil {
		return
	}
	q.hurry()
	interrupt := in.conn.reading.interruptible()
	if in.conn.phase.load() != open {
		return
	}
	select {
	case <-q.idle():
	case <-interrupt:
	case <-in.conn.ctx.Done():
	case <-timeout:
	}
}

// parseTopics returns what a client asks for that wants other topics; nil if it does not.
// An object with a field that such a request does not have is none.
func parseTopics(data []byte) *delivery.TopicsRequest {
	if !bytes.Contains(data, []byte(`"topics"`)) {
		return nil
	}
	var request struct {
		Topics *[]string `json:"topics"`
		After  string    `json:"after"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&request) != nil || d.More() || request.Topics == nil {
		return nil
	}
	after, err := broadcast.ParseID(request.After)
	if err != nil {
		after = broadcast.MakeID(1, 0) // which is before all messages, as in lastEventId
	}
	return &delivery.TopicsRequest{Topics: *request.Topics, After: after}
}

// parseToken returns the token that a client sends to renew its stream; nil if it sends
// something else. An object with another field is none.
func parseToken(data []byte) *string {
	if !bytes.Contains(data, []byte(`"token"`)) {
		return nil
	}
	var request struct {
		Token *string `json:"token"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&request) != nil || d.More() {
		return nil
	}
	return request.Token
}

// fail ends the stream with an error of receive, which gets no more messages.
func (in *inbox) fail(err error) {
	in.failed.Store(true)
	why := endOfReceive(err)
	if why == delivery.Fault {
		phase := in.conn.phase.load()
		_, isPanic := errors.AsType[*guard.PanicError](err)
		gone := !isPanic && (phase == refusing || phase == dead || in.conn.socket.out.state.load() == broken)
		level := slog.LevelError
		if gone {
			level = slog.LevelDebug // receive could not answer a client that has left, or is refused
		}
		in.engine.Report(level, "Handler.Receive", "error", err)
		if gone {
			return // read ends the stream, with the reason for which the connection has ended
		}
	}
	in.end(why)
}

// end ends the stream. The reason that stands is that of the close frame, also if one of the
// peer's is read before the stream has ended.
func (in *inbox) end(why delivery.Reason) {
	if stands := in.stream.End(why); stands.Code != 0 {
		in.conn.decide(ending, closeFrame(stands))
	}
}
