package ws

import (
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

// Client is the other end of a [Handler]: it reconnects by itself, and resumes behind
// the last position it was told, so that it gets each message once or is told of a gap.
// Its fields are set before it is used.
type Client struct {
	// URL is the Handler's, with the scheme ws, wss, http or https.
	URL string

	// After is the position to resume behind. If zero, the stream begins with what its
	// Grant has for a client that does not resume.
	After broadcast.ID

	// Dial is how to connect. If its Options.MaxMessage is zero, the server's messages
	// may have 1 MiB.
	Dial DialOptions

	// MaxBackoff bounds what is waited before another attempt: any time up to half a
	// second first, up to twice as much after each attempt that came to nothing. If
	// zero, 30 s.
	MaxBackoff time.Duration

	// Retry decides whether to try again after what would end the sequence: a
	// [*HandshakeError] or a [*CloseError] that Messages says is final. If nil, no. A
	// 400 may pass: net/http says so when it has waited too long for the rest of a
	// request, on a link that stalls.
	Retry func(error) bool

	// Logger gets connections that end (Debug). If nil, slog.Default().
	Logger *slog.Logger

	mu       sync.Mutex // guards what follows
	running  bool
	position broadcast.ID
	conn     *Conn         // nil while there is none
	news     chan struct{} // closed when conn changes; nil if nobody waits for that
}

const (
	defaultMaxEnvelope = 1 << 20
	handshakeTimeout   = 30 * time.Second
)

var errNoAnswer = errors.New("ws: the server does not answer the handshake")

// Messages returns the messages of a stream, over as many connections as it takes. A
// gap is yielded as an error (broadcast.ErrGap) before the messages that follow it, and
// the sequence goes on. A message without an ID is state that a client begins with: the
// Grant's Snapshot or Last.
//
// The sequence ends without an error when the server closes with 1000. Any other error
// is yielded last: that of ctx once it has ended, a [*HandshakeError] with a status
// that will not pass (4xx but 408, 425 and 429), a [*CloseError] whose code says that it
// will end like this again (1002, 1003, 1007 to 1010, 3003, 3500 to 3999 and 4500 to
// 4999), or what makes a stream impossible. Connections that fail otherwise are no
// errors; after 1013 the client waits 5 to 15 s at least, as RFC 6455's registry has it.
//
// Only one Messages of a Client runs at a time. A later one goes on where the one before
// it ended.
func (c *Client) Messages(ctx context.Context) iter.Seq2[*broadcast.Message, error] {
	return func(yield func(*broadcast.Message, error) bool) {
		if err := c.run(ctx, yield); err != nil {
			yield(nil, err)
		}
	}
}

// Position is the place up to which everything has been yielded: where to resume, for
// the After of another Client.
func (c *Client) Position() broadcast.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.position.IsZero() {
		return c.After
	}
	return c.position
}

// Send sends a message to the server, at most once. It waits for a connection, which is
// made while a Messages runs, until ctx ends. Any other error is as that of [Conn.Write]:
// the message may have arrived.
func (c *Client) Send(ctx context.Context, t MessageType, p []byte) error {
	for {
		c.mu.Lock()
		conn := c.conn
		if conn != nil {
			c.mu.Unlock()
			return conn.Write(ctx, t, p)
		}
		if c.news == nil {
			c.news = make(chan struct{})
		}
		news := c.news
		c.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("ws: sending without a connection: %w", context.Cause(ctx))
		}
	}
}

func (c *Client) use(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
}

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

func (c *Client) moved(id broadcast.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.position = id
}

// errDone ends a sequence without an error.
var errDone = errors.New("ws: done")

// run connects until something final happens, which it returns.
func (c *Client) run(ctx context.Context, yield func(*broadcast.Message, error) bool) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.end()
	target, err := url.Parse(c.URL)
	if err != nil {
		return fmt.Errorf("ws: Client.URL: %w", err)
	}
	waits := backoff.Backoff{Most: c.MaxBackoff}
	for {
		began := time.Now()
		good, err := c.connect(ctx, target, yield)
		switch {
		case errors.Is(err, errDone) || CloseStatus(err) == StatusNormalClosure:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errNoEnvelope) || final(err) && (c.Retry == nil || !c.Retry(err)):
			return err
		}
		if good || time.Since(began) >= backoff.Good {
			waits.Reset()
		}
		least := time.Duration(0)
		if refused, ok := errors.AsType[*HandshakeError](err); ok {
			least = refused.RetryAfter
		}
		wait := waits.Next(least)
		if CloseStatus(err) == StatusTryAgainLater {
			wait += 5*time.Second + rand.N(10*time.Second)
		}
		c.logger().Debug("ws: the connection has ended", "url", target.Redacted(), "reason", err, "again_in", wait)
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
	switch code := CloseStatus(err); code {
	case StatusProtocolError, StatusUnsupportedData, StatusInvalidFramePayloadData, StatusPolicyViolation,
		StatusMessageTooBig, StatusMandatoryExtension, StatusForbidden:
		return true
	default:
		return code >= 3500 && code <= 3999 || code >= 4500 && code <= 4999
	}
}

// connect connects once, and yields what comes. It returns why it has ended, and
// whether it was good for something.
func (c *Client) connect(ctx context.Context, target *url.URL, yield func(*broadcast.Message, error) bool) (good bool, err error) {
	u := *target
	if position := c.Position(); !position.IsZero() {
		query := u.Query()
		query.Set("lastEventId", position.String())
		u.RawQuery = query.Encode()
	}
	options := c.Dial
	if options.Options.MaxMessage == 0 {
		options.Options.MaxMessage = defaultMaxEnvelope
	}
	handshake, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, errNoAnswer)
	conn, err := Dial(handshake, u.String(), &options)
	cancel()
	if err != nil {
		return false, err
	}
	conn.ReadAhead(0) // who handles a message may take as long as he likes
	c.use(conn)
	defer func() {
		c.use(nil)
		if err == errDone || ctx.Err() != nil {
			_ = conn.Close(StatusNormalClosure, "")
			return
		}
		_ = conn.CloseNow()
	}()
	for {
		_, data, err := conn.Read(ctx)
		if err == nil {
			err = context.Cause(ctx) // what was read ahead may be much
		}
		if err != nil {
			return good, err
		}
		said, err := parseEnvelope(data)
		if err != nil {
			return good, err
		}
		good = good || said.message != nil || said.gap != nil
		goOn := true
		switch {
		case said.message != nil:
			goOn = yield(said.message, nil)
		case said.gap != nil:
			goOn = yield(nil, said.gap)
		}
		if !said.position.IsZero() {
			c.moved(said.position)
		}
		if !goOn {
			return good, errDone
		}
	}
}

// errNoEnvelope is an answer that no Client can do anything with.
var errNoEnvelope = errors.New("ws: the server does not speak in envelopes, which a Client needs; Dial reads anything")

// envelope is what a Handler says: a message, a gap, or neither, and where that is.
type envelope struct {
	message  *broadcast.Message
	gap      *broadcast.GapError
	position broadcast.ID
}

func parseEnvelope(data []byte) (envelope, error) {
	var e struct {
		ID                   broadcast.ID
		Topic                *string
		Type, Data, Encoding string
		Ready, Gap, Position broadcast.ID
		Topics               []string
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return envelope{}, fmt.Errorf("%w: %w", errNoEnvelope, err)
	}
	switch {
	case e.Topic != nil:
		m := &broadcast.Message{ID: e.ID, Topic: *e.Topic, Type: e.Type, Data: []byte(e.Data)}
		if e.Encoding == "base64" {
			m.Binary = true
			var err error
			if m.Data, err = base64.StdEncoding.DecodeString(e.Data); err != nil {
				return envelope{}, fmt.Errorf("%w: %w", errNoEnvelope, err)
			}
		}
		return envelope{message: m, position: e.ID}, nil
	case !e.Gap.IsZero():
		return envelope{gap: &broadcast.GapError{ID: e.Gap, Topics: e.Topics}, position: e.Gap}, nil
	case !e.Ready.IsZero():
		return envelope{position: e.Ready}, nil
	case !e.Position.IsZero():
		return envelope{position: e.Position}, nil
	}
	return envelope{}, errNoEnvelope
}

func (c *Client) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.Default()
	}
	return c.Logger
}
