package ws

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/backoff"
	"github.com/fanfare-go/fanfare/internal/status"
)

// Client is a client of a [Handler] with a nil Encode. It reconnects by itself, and
// resumes after the position that it has reached, so that it gets each message once, or
// a gap. The fields are set before the first call. The methods may be called
// concurrently. A Client must not be copied once it is used.
type Client struct {
	// URL is the Handler's, with the scheme ws, wss, http or https. It is required.
	URL string

	// After is the position after which to resume. If zero, the stream begins with the
	// state that its Grant has for a client that does not resume.
	After broadcast.ID

	// Dial is how to connect. If its Options.MaxMessage is zero, the server's messages
	// may have 1 MiB.
	Dial DialOptions

	// MaxBackoff bounds the time before another attempt. That is random, up to half a
	// second at first, and up to twice as much after each attempt that fails. If zero, 30
	// s; if negative, Messages returns an error.
	MaxBackoff time.Duration

	// Retry decides whether to try again after an error that would end the sequence: a
	// [*HandshakeError] or a [*CloseError] that is final by the rules of Messages. If
	// nil, such errors are final. A status 400 may be worth another attempt: net/http
	// answers with it when the rest of a request does not arrive in time.
	Retry func(error) bool

	// Logger logs each connection that ends (Debug). If nil, slog.Default() does.
	Logger *slog.Logger

	mu        sync.Mutex // guards what follows
	running   bool       // a Messages is running
	position  broadcast.ID
	conn      *Conn         // nil while there is none
	connected chan struct{} // closed when conn is set; nil if no Send waits for that
	topics    clientTopics
}

const (
	defaultMaxEnvelope = 1 << 20
	handshakeTimeout   = 30 * time.Second
)

var errNoAnswer = errors.New("ws: the server does not answer the handshake")

// Messages returns the messages of a stream, over as many connections as it takes. A
// gap is yielded as an error ([broadcast.ErrGap]) before the messages that follow it, a
// beginning likewise ([broadcast.ErrBegin]), after which the caller forgets what it has of
// these topics, a change of topics that the server refuses as a [*TopicsError], and a token that
// it refuses as a [*TokenError]; after each of them the sequence goes on. A message without an ID is state: of the Grant's
// Snapshot, Last or Beginning, or a Key among many that have changed. The messages belong to
// the caller.
//
// The sequence ends without an error when the server closes the connection with 1000, as it
// does once all topics have ended, or when the loop is left; both close the connection. Any other error is the last that is
// yielded:
//   - the cause of ctx, once it has ended
//   - a [*HandshakeError] with a final status: 204, or 4xx except 408, 425 and 429
//   - a [*CloseError] with a final code: 1002, 1003, 1007 to 1010, 3003, 3500 to 3999 or
//     4500 to 4999, or with 3000 and the reason unauthorized, which stands for a 401 where
//     the URL has refusals=close
//   - a URL or MaxBackoff that is invalid, or messages that are not a Handler's envelopes: once a
//     connection has begun with one, other JSON objects are ignored, as notices of a later version
//
// After all other ends of a connection the Client connects again. After 1013 it waits 5
// to 15 s longer, and after a Retry-After as much longer as that says.
//
// Only one Messages of a Client runs at a time: a second one yields an error. A later one
// goes on where the one before it ended.
func (c *Client) Messages(ctx context.Context) iter.Seq2[*broadcast.Message, error] {
	return func(yield func(*broadcast.Message, error) bool) {
		if err := c.run(ctx, yield); err != nil {
			yield(nil, err)
		}
	}
}

// Position returns the position up to which everything has been yielded: the After with
// which another Client resumes.
func (c *Client) Position() broadcast.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.position.IsZero() {
		return c.After
	}
	return c.position
}

// Send sends a message to the server, at most once. It waits for a connection until ctx
// ends; only a running Messages connects. Other errors are those of [Conn.Write], after
// which the message may have arrived.
func (c *Client) Send(ctx context.Context, t MessageType, p []byte) error {
	for {
		c.mu.Lock()
		conn := c.conn
		if conn != nil {
			c.mu.Unlock()
			return conn.Write(ctx, t, p)
		}
		if c.connected == nil {
			c.connected = make(chan struct{})
		}
		connected := c.connected
		c.mu.Unlock()
		select {
		case <-connected:
		case <-ctx.Done():
			return fmt.Errorf("ws: sending without a connection: %w", context.Cause(ctx))
		}
	}
}

// setConn sets the connection for Send; nil for none. It returns what has to be sent first
// over a new one, nil for nothing.
func (c *Client) setConn(conn *Conn) (first []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	if conn != nil {
		first = c.topics.restore(c.position)
	}
	if conn != nil && c.connected != nil {
		close(c.connected)
		c.connected = nil
	}
	return first
}

// begin excludes a second Messages, until end.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return errors.New("ws: another Messages of the Client is running")
	}
	c.running = true
	if c.position.IsZero() {
		c.position = c.After
	}
	return nil
}

func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
}

func (c *Client) setPosition(id broadcast.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.position = id
}

// errDone ends a sequence without an error: its loop was left.
var errDone = errors.New("ws: done")

// run connects until the sequence ends, and returns its last error; nil for none.
func (c *Client) run(ctx context.Context, yield func(*broadcast.Message, error) bool) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.end()
	target, err := url.Parse(c.URL)
	if err != nil {
		return fmt.Errorf("ws: Client.URL: %w", err)
	}
	if c.MaxBackoff < 0 {
		return errors.New("ws: Client.MaxBackoff is negative")
	}
	waits := backoff.Backoff{Most: c.MaxBackoff}
	logger := cmp.Or(c.Logger, slog.Default())
	for {
		began := time.Now()
		good, err := c.connect(ctx, target, yield)
		switch {
		case errors.Is(err, errDone) || CloseStatus(err) == StatusNormalClosure:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errNoEnvelope) || final(err) && (c.Retry == nil || !c.Retry(err)):
			if isRefusal(err) && CloseStatus(err) == StatusMessageTooBig {
				return fmt.Errorf("%w (Client.Dial.Options.MaxMessage)", err)
			}
			return err
		}
		if good || time.Since(began) >= backoff.Good {
			waits.Reset()
		}
		least := time.Duration(0)
		if refused, ok := errors.AsType[*HandshakeError](err); ok {
			least = refused.RetryAfter
		}
		if CloseStatus(err) == StatusTryAgainLater { // which RFC 6455's registry wants to be delayed
			least = 5*time.Second + rand.N(10*time.Second)
		}
		wait := waits.Next(least)
		logger.Debug("ws: the connection has ended", "url", target.Redacted(), "reason", err, "again_in", wait)
		if err := backoff.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// final reports whether another attempt would end the same way.
func final(err error) bool {
	if refused, ok := errors.AsType[*HandshakeError](err); ok {
		return refused.Status >= 400 && !status.MayPass(refused.Status) || refused.Status == http.StatusNoContent
	}
	if closed, ok := errors.AsType[*CloseError](err); ok && closed.Code == StatusUnauthorized {
		return closed.Reason == "unauthorized" // with refusals=close in the URL, what a 401 says; a Grant that expires has another reason
	}
	switch code := CloseStatus(err); code {
	case StatusProtocolError, StatusUnsupportedData, StatusInvalidFramePayloadData, StatusPolicyViolation,
		StatusMessageTooBig, StatusMandatoryExtension, StatusForbidden:
		return true
	default:
		return code >= 3500 && code <= 3999 || code >= 4500 && code <= 4999
	}
}

// connect connects once, and yields what it reads. It returns why the connection has
// ended, and whether anything was yielded.
func (c *Client) connect(ctx context.Context, target *url.URL, yield func(*broadcast.Message, error) bool) (good bool, err error) {
	conn, err := c.dial(ctx, target)
	if err != nil {
		return false, err
	}
	conn.ReadAhead(0) // the caller may take its time for a message
	if first := c.setConn(conn); first != nil {
		_ = conn.Write(ctx, Text, first) // a connection that has failed is noticed by Read
	}
	defer func() {
		c.setConn(nil)
		if err == errDone || ctx.Err() != nil {
			_ = conn.Close(StatusNormalClosure, "")
			return
		}
		_ = conn.CloseNow()
	}()
	for begun := false; ; begun = true {
		_, data, err := conn.Read(ctx)
		if err == nil {
			err = context.Cause(ctx) // many messages may have been read ahead
		}
		if err != nil {
			return good, err
		}
		e, err := parseEnvelope(data)
		if err == nil && e.unknown && !begun {
			err = errNoEnvelope
		}
		if err != nil {
			return good, err
		}
		good = good || e.message != nil || e.loss != nil
		goOn := true
		switch {
		case e.message != nil:
			goOn = yield(e.message, nil)
		case e.loss != nil:
			goOn = yield(nil, e.loss)
		case e.answer:
			if refused := c.answered(ctx, conn, e); refused != nil {
				goOn = yield(nil, refused)
			}
		case e.renewed && e.status != 0:
			goOn = yield(nil, &TokenError{e.status})
		}
		if !e.position.IsZero() {
			c.setPosition(e.position)
		}
		if !goOn {
			return good, errDone
		}
	}
}

// errNoEnvelope is the final error for messages that are not envelopes.
var errNoEnvelope = errors.New("ws: the server does not send envelopes, which a Client needs; use Dial to read other messages")

// dial makes a connection that resumes after the position.
func (c *Client) dial(ctx context.Context, target *url.URL) (*Conn, error) {
	u, position := *target, c.Position()
	query := u.Query()
	if !position.IsZero() {
		query.Set("lastEventId", position.String())
	}
	c.mu.Lock()
	restored := c.topics.addTo(query)
	c.mu.Unlock()
	if restored || !position.IsZero() {
		u.RawQuery = query.Encode()
	}
	options := c.Dial
	if options.Options.MaxMessage == 0 {
		options.Options.MaxMessage = defaultMaxEnvelope
	}
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, errNoAnswer)
	defer cancel()
	return Dial(ctx, u.String(), &options)
}

// envelope is a message of a Handler: a message, a loss or another notice, and its position.
type envelope struct {
	message  *broadcast.Message
	loss     error // a *broadcast.GapError or *broadcast.BeginError
	position broadcast.ID

	answer  bool     // to a change of topics
	topics  []string // that the client has now, unless it was refused
	renewed bool     // it is the answer to a token
	status  int      // why the topics or the token were refused; 0: they were not

	unknown bool // a JSON object of another kind
}

func parseEnvelope(data []byte) (envelope, error) {
	var e struct {
		ID                   broadcast.ID
		Topic                *string
		Type, Data, Encoding string
		Key                  string
		Removed, First       bool
		End                  json.RawMessage // true in a message, else the position where the stream ends

		Ready, Gap, Begin, Position broadcast.ID
		Topics, Partial             []string
		Status                      int
		Renewed                     json.RawMessage // a position that does not count: messages without IDs may precede it
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return envelope{}, fmt.Errorf("%w: %w", errNoEnvelope, err)
	}
	switch {
	case e.Topic != nil:
		m := &broadcast.Message{ID: e.ID, Topic: *e.Topic, Type: e.Type, Data: []byte(e.Data),
			Key: e.Key, Removed: e.Removed, First: e.First, End: string(e.End) == "true"}
		if e.Encoding == "base64" {
			m.Binary = true
			var err error
			if m.Data, err = base64.StdEncoding.DecodeString(e.Data); err != nil {
				return envelope{}, fmt.Errorf("%w: %w", errNoEnvelope, err)
			}
		}
		return envelope{message: m, position: e.ID}, nil
	case !e.Gap.IsZero():
		return envelope{loss: &broadcast.GapError{ID: e.Gap, Topics: e.Topics}, position: e.Gap}, nil
	case !e.Begin.IsZero():
		return envelope{loss: &broadcast.BeginError{Topics: e.Topics, Partial: e.Partial}, position: e.Begin}, nil
	case !e.Ready.IsZero():
		return envelope{position: e.Ready}, nil
	case len(e.Renewed) > 0:
		return envelope{renewed: true, status: e.Status}, nil
	case !e.Position.IsZero():
		answer := e.Topics != nil || e.Status != 0
		return envelope{position: e.Position, answer: answer, topics: e.Topics, status: e.Status}, nil
	}
	if end := new(broadcast.ID); json.Unmarshal(e.End, end) == nil && !end.IsZero() {
		return envelope{position: *end}, nil // a close frame follows
	}
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) { // any other JSON that is no object is an error above
		return envelope{}, errNoEnvelope
	}
	return envelope{unknown: true}, nil
}
