package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/fanfare-go/fanfare/ws"
)

// dial opens the WebSocket as a page of an origin, after a position if that is not empty.
func (c *checker) dial(ctx context.Context, origin, after string) (*ws.Conn, error) {
	u := *c.url
	if after != "" {
		query := u.Query()
		query.Set("lastEventId", after)
		u.RawQuery = query.Encode()
	}
	header := c.header.Clone()
	if origin != "" {
		header.Set("Origin", origin)
	}
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	return ws.Dial(ctx, u.String(), &ws.DialOptions{
		Header:  header,
		Options: ws.Options{PingInterval: time.Second, MaxMessage: -1, Compression: true},
	})
}

// first is how a WebSocket of this kit begins, as far as check looks at it.
type first struct {
	ID       string  `json:"id"`
	Ready    *string `json:"ready"`
	Position string  `json:"position"`
	Gap      *string `json:"gap"`
}

// checkSocket checks a WebSocket.
func (c *checker) checkSocket(ctx context.Context) {
	began := time.Now()
	conn, err := c.dial(ctx, c.origin, "")
	if err != nil {
		c.explain(err)
		return
	}
	defer conn.CloseNow()
	c.ok("handshake", "101 after %v, as a page of %s", time.Since(began).Round(time.Millisecond), c.origin)
	position, ok := c.checkFirst(ctx, conn, began)
	if ok {
		c.checkQuiet(ctx, conn)
		c.checkSocketResume(ctx, position)
	}
	c.checkOrigin(ctx)
}

// explain reports why there is no WebSocket.
func (c *checker) explain(err error) {
	refused, ok := errors.AsType[*ws.HandshakeError](err)
	switch {
	case !ok:
		c.fault("handshake", "%v", err)
	case refused.Status == http.StatusForbidden:
		c.fault("origin", "403 for a page of %s: a proxy hides the public host (nginx: proxy_set_header Host $http_host), the pages have another origin (-origin), or credentials are missing (-H)", c.origin)
	case refused.Status == http.StatusBadRequest || refused.Status == http.StatusUpgradeRequired || refused.Status == http.StatusOK:
		c.fault("handshake", "%d: a proxy does not pass the upgrade on (nginx: proxy_http_version 1.1, Upgrade and Connection), or this is no WebSocket", refused.Status)
	case refused.Status == http.StatusUnauthorized:
		c.fault("handshake", "the server answers 401%s", c.hint())
	default:
		c.fault("handshake", "the server answers %d", refused.Status)
	}
}

// checkFirst reads until the stream has told its position.
func (c *checker) checkFirst(ctx context.Context, conn *ws.Conn, began time.Time) (position string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	for messages := 0; ; messages++ {
		_, data, err := conn.Read(ctx)
		if err != nil && messages == 0 && isUnauthorized(err) {
			c.fault("handshake", "the server answers 401, by a close frame%s", c.hint())
			return "", false
		}
		if err != nil && messages == 0 {
			c.fault("buffering", "nothing came: %v", err)
			return "", false
		}
		if err != nil {
			c.fault("resume", "no position came: a client that is cut loses what is published until it is back")
			return "", true
		}
		if took := time.Since(began); messages == 0 && took > prompt {
			c.fault("buffering", "the first message came after %v: something on the way collects them", took.Round(time.Millisecond))
		} else if messages == 0 {
			c.ok("buffering", "the first message came after %v", took.Round(time.Millisecond))
		}
		var f first
		if json.Unmarshal(data, &f) != nil {
			continue
		}
		switch {
		case f.Ready != nil:
			return *f.Ready, true
		case f.ID != "":
			return f.ID, true
		case f.Position != "":
			return f.Position, true
		}
	}
}

// checkQuiet checks that pings are answered, without which the client cuts the connection.
func (c *checker) checkQuiet(ctx context.Context, conn *ws.Conn) {
	const pings = 2500 * time.Millisecond // of which the client sends one each second
	ctx, cancel := context.WithTimeout(ctx, min(pings, c.wait))
	defer cancel()
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			if ctx.Err() != nil && conn.Context().Err() == nil || errors.Is(err, context.DeadlineExceeded) {
				c.ok("heartbeat", "pings are answered")
			} else {
				c.fault("heartbeat", "the connection was ended: %v", err)
			}
			return
		}
	}
}

// checkSocketResume comes back after a position.
func (c *checker) checkSocketResume(ctx context.Context, position string) {
	if position == "" {
		return // reported
	}
	conn, err := c.dial(ctx, c.origin, position)
	if isUnauthorized(err) && c.hasTicket() {
		c.note("resume", notChecked)
		return
	}
	if err != nil {
		c.fault("resume", "coming back with lastEventId=%s: %v", position, err)
		return
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	_, data, err := conn.Read(ctx)
	var f first
	switch {
	case isUnauthorized(err) && c.hasTicket(): // the reason came in a close frame
		c.note("resume", notChecked)
	case err != nil:
		c.fault("resume", "coming back with lastEventId=%s: %v", position, err)
	case json.Unmarshal(data, &f) == nil && f.Gap != nil:
		c.fault("resume", "coming back with lastEventId=%s at once is a gap: the request reaches another log, such as that of a server with a Hub of its own", position)
	default:
		c.ok("resume", "goes on after %s", url.QueryEscape(position))
	}
}

// checkOrigin checks that a page of another site is refused: it would have the cookies of its
// visitors.
func (c *checker) checkOrigin(ctx context.Context) {
	conn, err := c.dial(ctx, foreignOrigin, "")
	if err == nil {
		_ = conn.CloseNow()
		c.fault("origin", "a page of another site gets a WebSocket, with the cookies of its visitors: keep Options.CheckOrigin, or name the sites with middleware.Origins")
		return
	}
	if isUnauthorized(err) && c.hasTicket() {
		c.note("origin", notChecked)
		return
	}
	if refused, ok := errors.AsType[*ws.HandshakeError](err); ok {
		c.ok("origin", "a page of another site is refused with %d", refused.Status)
		return
	}
	c.note("origin", "as a page of another site: %v", err)
}
