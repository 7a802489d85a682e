package ws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// inbox reads what a Handler's client sends, and hands it to Receive's function,
// one message after the other. It reads on while the function runs, so that
// control frames are answered, but only so far ahead.
type inbox struct {
	conn    *Conn
	stream  *delivery.Stream
	logger  *slog.Logger
	receive func(MessageType, []byte) error
	change  bool   // the client may ask for other topics
	rate    *rate  // nil: no limit
	most    int64  // bytes that wait at most
	queue   *queue // made for the first message

	mu      sync.Mutex    // guards what follows
	failed  bool          // nothing more is handed over
	running chan struct{} // closed when the goroutine that hands over has ended; nil without one
}

func newInbox(c *Conn, s *delivery.Stream, logger *slog.Logger, o Options) *inbox {
	most := o.MaxMessage
	if most < 0 {
		most = defaultMaxMessage
	}
	in := &inbox{conn: c, stream: s, logger: logger, most: most, change: s.MayChange()}
	if o.MessageRate != 0 {
		in.rate = &rate{perSecond: o.MessageRate}
	}
	return in
}

// serve reads until the connection has ended, and waits until nothing runs for it any
// more.
func (in *inbox) serve() {
	in.read()
	<-in.stream.Done()
	in.wait()
}

// read reads until the connection has ended. Once the stream is to end it only
// waits for that: it discards what comes.
func (in *inbox) read() {
	for {
		typ, data, err := in.conn.Read(context.Background())
		switch {
		case err != nil:
			in.stream.End(peer(in.conn, err))
			return
		case in.conn.closing.Load():
		case in.receive == nil && !in.change:
			in.stream.End(refusal("no message is expected"))
		case !in.rate.allows(time.Now()):
			in.stream.End(refusal("too many messages"))
		default:
			in.take(received{typ: typ, data: data})
		}
	}
}

func refusal(text string) delivery.Reason {
	return delivery.Reason{Name: text, Code: int(StatusPolicyViolation), Text: text}
}

// take takes a message for what it is.
func (in *inbox) take(r received) {
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
	in.put(r)
}

// parseTopics returns the topics that a client asks for. An object that has anything
// else in it is none of ours.
func parseTopics(data []byte) (topics []string, ok bool) {
	if !bytes.Contains(data, []byte(`"topics"`)) {
		return nil, false
	}
	var asked struct {
		Topics *[]string `json:"topics"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&asked) != nil || d.More() || asked.Topics == nil {
		return nil, false
	}
	return *asked.Topics, true
}

// put hands a message over, and waits for room if too much waits already.
func (in *inbox) put(r received) {
	if in.queue == nil {
		in.queue = newQueue(in.most)
	}
	began := time.Now()
	if in.queue.put(r, in.conn.ctx.Done()) {
		in.rate.forgive(time.Since(began)) // what comes meanwhile is read in one go
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.running == nil {
		in.running = make(chan struct{})
		go in.run()
	}
}

// run hands over what waits. It ends when nothing does, or with an error.
func (in *inbox) run() {
	for {
		r, ok := in.next()
		if !ok {
			return
		}
		if err := guard.Call("Receive", func() error { return in.receive(r.typ, r.data) }); err != nil {
			in.fail(err)
		}
		in.queue.letGo(r)
	}
}

// next takes what is to be handed over, or ends the running where there is
// nothing.
func (in *inbox) next() (r received, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for r, ok = in.queue.take(); ok && in.failed; r, ok = in.queue.take() {
		in.queue.letGo(r)
	}
	if !ok {
		close(in.running)
		in.running = nil
	}
	return r, ok
}

// fail ends the stream with an error of Receive. Nothing more is handed over.
func (in *inbox) fail(err error) {
	why := reason(err)
	refused := false
	if why == delivery.Fault {
		level := slog.LevelError
		if _, isPanic := errors.AsType[*guard.PanicError](err); !isPanic && (in.conn.ctx.Err() != nil || in.conn.refused.Load()) {
			level = slog.LevelDebug // it wanted to answer a client that has left, or is refused
			refused = in.conn.refused.Load()
		}
		in.logger.Log(context.Background(), level, "ws: Handler.Receive", "error", err)
	}
	in.mu.Lock()
	in.failed = true
	in.mu.Unlock()
	if refused {
		return // who reads ends the stream, with the reason that the client is told
	}
	in.conn.closing.Store(true)
	in.stream.End(why)
}

// wait waits until what had come has been handed over.
func (in *inbox) wait() {
	in.mu.Lock()
	running := in.running
	in.mu.Unlock()
	if running != nil {
		<-running
	}
}

// rate is a bucket of as many messages as a second may have.
type rate struct {
	perSecond float64
	left      float64
	forgiven  float64 // allowed on top
	at        time.Time
}

// forgive lets the messages come at once of a time in which nothing was read.
func (r *rate) forgive(d time.Duration) {
	if r != nil {
		r.forgiven += d.Seconds() * r.perSecond
	}
}

func (r *rate) allows(now time.Time) bool {
	if r == nil {
		return true
	}
	most := math.Max(1, r.perSecond)
	if r.at.IsZero() {
		r.left = most
	} else {
		r.left = min(most, r.left+now.Sub(r.at).Seconds()*r.perSecond)
	}
	r.at = now
	switch {
	case r.left >= 1:
		r.left--
	case r.forgiven >= 1:
		r.forgiven--
	default:
		return false
	}
	return true
}
