package endtoend_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/backoff"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// follow makes a subscriber follow its topics until they end. The error says what should
// never happen.
type follow func(*subscriber, context.Context) error

// follows are all kinds of clients.
var follows = []follow{(*subscriber).withSSE, (*subscriber).withWebSocket, (*subscriber).byHand}

// maxBackoff is the longest that a client waits before it connects again.
const maxBackoff = 500 * time.Millisecond

// inPart reports whether a status is net/http's response to a request that did not arrive
// completely within ReadHeaderTimeout. Clients do not retry after it by default.
func inPart(status int) bool { return status == http.StatusBadRequest }

// withSSE follows with an sse.Client that reads plain events or envelopes.
func (c *subscriber) withSSE(ctx context.Context) error {
	query := url.Values{}
	plain := c.rng.IntN(2) == 0
	if !plain {
		query.Set("envelope", "1")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/sse"+c.path(query), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Last-Event-ID", c.position)
	client := sse.Client{
		HTTPClient: c.http, Silence: c.silence, MaxBackoff: maxBackoff, Logger: slog.New(slog.DiscardHandler),
		Retry: func(err *sse.ResponseError) bool { return inPart(err.Status) },
	}
	for e, err := range client.Events(r) {
		switch {
		case err != nil:
		case plain && e.Type != "gap":
			err = c.event(e)
		default:
			err = c.envelope(e.Data)
		}
		if err != nil || c.done() {
			return err
		}
	}
	return errors.New("the client has stopped retrying")
}

// event records the message of a plain event. Its topic is in its data.
func (c *subscriber) event(e sse.Event) error {
	topic, err := topicOf(e.Data)
	if err != nil {
		return err
	}
	return c.message(e.ID, topic, e.Type, e.Data)
}

// withWebSocket follows with a ws.Client.
func (c *subscriber) withWebSocket(ctx context.Context) error {
	after, err := broadcast.ParseID(c.position)
	if err != nil {
		return err
	}
	options := ws.Options{PingInterval: c.silence / 2, WriteTimeout: c.silence, Compression: c.rng.IntN(2) == 0}
	client := ws.Client{
		URL:        strings.Replace(c.url, "http", "ws", 1) + "/ws" + c.path(url.Values{}),
		After:      after,
		Dial:       ws.DialOptions{HTTPClient: c.http, Options: options},
		MaxBackoff: maxBackoff,
		Logger:     slog.New(slog.DiscardHandler),
		Retry: func(err error) bool {
			refused, ok := errors.AsType[*ws.HandshakeError](err)
			return ok && inPart(refused.Status)
		},
	}
	for m, err := range client.Messages(ctx) {
		var gap *broadcast.GapError
		switch {
		case errors.As(err, &gap):
			c.gap(gap.ID.String(), gap.Topics)
			continue
		case err == nil:
			err = c.message(m.ID.String(), m.Topic, m.Type, m.Data)
		}
		if err != nil || c.done() {
			return err
		}
	}
	return errors.New("the client has stopped retrying")
}

// byHand follows over a random transport each time, and cuts many streams before they end.
func (c *subscriber) byHand(ctx context.Context) error {
	for !c.done() {
		s := c.first(ctx, 1+c.rng.IntN(2))
		if s != nil {
			_, wrong := c.read(s, 1+c.rng.IntN(200))
			s.close()
			if wrong != nil {
				return wrong
			}
		}
		if err := backoff.Sleep(ctx, time.Duration(c.rng.Int64N(int64(maxBackoff)))); err != nil {
			return err
		}
	}
	return nil
}

// first connects several times at once, and returns the stream that opens first; nil if
// none does. It closes the others as they open.
func (c *subscriber) first(ctx context.Context, attempts int) *stream {
	answers := make(chan *stream, attempts)
	for range attempts {
		connect := c.attempt(c.rng.IntN(2) == 0)
		go func() {
			s, _ := connect(ctx)
			answers <- s
		}()
	}
	for left := attempts - 1; left >= 0; left-- {
		s := <-answers
		if s == nil {
			continue
		}
		go func() {
			for range left {
				if late := <-answers; late != nil {
					late.close()
				}
			}
		}()
		return s
	}
	return nil
}
