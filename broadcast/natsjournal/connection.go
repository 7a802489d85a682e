package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	pingInterval   = 10 * time.Second // of Connect
	flusherTimeout = 10 * time.Second // of Connect
	pingTimeout    = 2 * time.Second  // of revive
)

// Connect connects to NATS as a server that runs for months needs it. The connection never
// gives up: it reconnects without limit, after refused authentications too
// ([nats.IgnoreAuthErrorAbort]), and goes on trying if the first attempt fails. It pings
// every 10 seconds, so that a connection whose other end has vanished is replaced within
// 30 seconds, and a write that the network does not accept fails after 10 seconds. The
// defaults of nats.go are minutes, and two refused authentications close its connection for
// good.
//
// Further options are applied afterwards. The caller closes the connection.
func Connect(urls string, options ...nats.Option) (*nats.Conn, error) {
	conn, err := nats.Connect(urls, append([]nats.Option{
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(flusherTimeout),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("natsjournal: connecting: %w", err)
	}
	return conn, nil
}

// checkConn returns an error if the connection is closed, which it stays.
func (j *Journal) checkConn() error {
	if !j.Conn.IsClosed() {
		return nil
	}
	reason := ""
	if err := j.Conn.LastError(); err != nil {
		reason = fmt.Sprintf(" (its last error: %v)", err)
	}
	return fmt.Errorf("%w: Journal.Conn: %w%s, and does not come back: make it with natsjournal.Connect, and close it after the Hub",
		ErrUnusable, nats.ErrConnectionClosed, reason)
}

// reportClosed logs once that the connection is closed.
func (j *Journal) reportClosed(err error) {
	j.mu.Lock()
	reported := j.closedReported
	j.closedReported = true
	j.mu.Unlock()
	if !reported {
		j.logger().Error("natsjournal: this node gets and publishes nothing any more, because its connection is closed for good", "error", err)
	}
}

// revive makes the connection anew if the server at its other end does not answer a ping: the
// network may have forgotten the connection without saying so. A server that answers is left
// alone, since others may share the connection, even if its JetStream is away.
func (j *Journal) revive(ctx context.Context) {
	if !j.Conn.IsConnected() {
		return
	}
	before := j.Conn.Stats()
	pinging, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := j.Conn.FlushWithContext(pinging)
	after := j.Conn.Stats()
	switch {
	case !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return
	case after.Reconnects != before.Reconnects, after.InBytes != before.InBytes, !j.Conn.IsConnected():
		return
	}
	j.logger().Warn("natsjournal: the NATS server does not answer a ping: reconnecting", "server", j.Conn.ConnectedUrlRedacted())
	_ = j.Conn.ForceReconnect() // an error says that it is closed, which the next request finds
}
