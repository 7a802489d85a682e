package ws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/broadcast"
)

// TopicsError is yielded by [Client.Messages] when the server refuses a change of topics:
// the client has the topics that it had, and the sequence goes on.
type TopicsError struct {
	Topics []string // that the client has asked for
	Status int      // the HTTP status that says why
}

func (e *TopicsError) Error() string {
	return fmt.Sprintf("ws: the server has refused a change to %d topics (status %d)", len(e.Topics), e.Status)
}

// TokenError is yielded by [Client.Messages] when the server refuses a token, which the client has
// sent with [Client.Send] as {"token":"..."}: the stream goes on until it expires, and the sequence
// goes on.
type TokenError struct {
	Status int // the HTTP status that says why
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("ws: the server has refused a token (status %d): the stream goes on until it expires", e.Status)
}

// clientTopics are the topics that a Client has asked for. At most one request is under
// way, so that each answer belongs to it. Guarded by Client.mu.
type clientTopics struct {
	asked   bool     // SetTopics was called, and not refused
	wanted  []string // by the latest SetTopics
	has     bool     // granted is what the server has granted
	granted []string

	pending []string // of the request that has no answer yet on this connection
	waiting bool     // there is one
}

// SetTopics asks for other topics, which are the whole new set. The server's Grant.Change
// decides: if it refuses them, Messages yields a [*TopicsError] and the client keeps the
// topics that it had. Without a connection they are asked for when there is one. Of
// several calls during one request only the latest counts.
//
// After each reconnect the client asks again for the topics that it was granted: in the
// request, as parameters named topic, and in a message. A Grant that reads these
// parameters, as it does for fanfare.js, resumes them where the client was cut, and so
// does one without topics of its own. For topics that the connection gets later than
// messages which it may have missed, Messages yields a gap.
//
// ctx bounds the wait for other messages that are being sent. If it ends meanwhile, its
// error is returned, and the topics are asked for by the next SetTopics or connection. Other
// errors are about the topics: more than 1,000, or one that is not UTF-8.
func (c *Client) SetTopics(ctx context.Context, topics []string) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ws: %w", context.Cause(ctx))
	case len(topics) > maxTopics:
		return fmt.Errorf("ws: SetTopics: %d topics, at most %d are allowed", len(topics), maxTopics)
	case slices.ContainsFunc(topics, func(name string) bool { return !utf8.ValidString(name) }):
		return errors.New("ws: SetTopics: a topic must be UTF-8")
	}
	c.mu.Lock()
	c.topics.asked, c.topics.wanted = true, slices.Clone(topics)
	conn, request := c.conn, []byte(nil)
	if conn != nil && !c.topics.waiting {
		request = c.topics.request(c.topics.wanted, broadcast.ID{})
	}
	c.mu.Unlock()
	if request == nil {
		return nil
	}
	err := conn.Write(ctx, Text, request)
	if err == nil || ctx.Err() == nil || conn.Context().Err() != nil {
		return nil // if this connection has failed, the next one asks
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == conn {
		c.topics.pending, c.topics.waiting = nil, false
	}
	return err
}

// maxTopics is how many topics a client may have.
const maxTopics = 1000

// request returns a request for topics, which is under way from now on.
func (t *clientTopics) request(topics []string, after broadcast.ID) []byte {
	t.pending, t.waiting = topics, true
	request := struct {
		Topics []string `json:"topics"`
		After  string   `json:"after,omitempty"`
	}{Topics: append([]string{}, topics...)}
	if !after.IsZero() {
		request.After = after.String()
	}
	b, _ := json.Marshal(request) // strings can be encoded
	return b
}

// restore asks for the topics again on a new connection that resumes after a position:
// first for those that were granted.
func (t *clientTopics) restore(after broadcast.ID) []byte {
	t.pending, t.waiting = nil, false
	switch {
	case t.has:
		return t.request(t.granted, after)
	case t.asked:
		return t.request(t.wanted, broadcast.ID{})
	}
	return nil
}

// answer notes the server's answer to the request that is under way. It returns the next
// request, nil if there is none, and the error of one that was refused.
func (t *clientTopics) answer(topics []string, status int) (next []byte, refused error) {
	if !t.waiting {
		if status == 0 { // to a request that was sent with Send
			t.asked, t.has, t.wanted, t.granted = true, true, topics, topics
		}
		return nil, nil
	}
	asked := t.pending
	t.pending, t.waiting = nil, false
	latest := slices.Equal(asked, t.wanted)
	if status != 0 {
		refused = &TopicsError{Topics: asked, Status: status}
		if t.has && slices.Equal(asked, t.granted) { // no longer granted, on a new connection
			t.has, t.granted = false, nil
		}
		if latest {
			t.asked, t.wanted = t.has, t.granted
		}
	} else {
		t.has, t.granted = true, topics
		if latest {
			t.wanted = topics
		}
	}
	if t.asked && !latest {
		next = t.request(t.wanted, broadcast.ID{})
	}
	return next, refused
}

// maxTopicsQuery is how many bytes of topics go into the query of a request. Proxies and
// servers refuse long ones; what does not fit is asked for in the message alone.
const maxTopicsQuery = 4 << 10

// addTo sets the topics in the query of a request, and reports whether it did.
func (t *clientTopics) addTo(query url.Values) bool {
	if !t.has || len(url.Values{"topic": t.granted}.Encode()) > maxTopicsQuery {
		return false
	}
	query["topic"] = t.granted
	return true
}

// answered handles the server's answer to a change of topics. It returns the error that
// Messages yields, nil for none.
func (c *Client) answered(ctx context.Context, conn *Conn, e envelope) (refused error) {
	c.mu.Lock()
	next, refused := c.topics.answer(e.topics, e.status)
	c.mu.Unlock()
	if next != nil {
		_ = conn.Write(ctx, Text, next) // a connection that has failed is noticed by Read
	}
	return refused
}
