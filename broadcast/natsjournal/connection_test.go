package natsjournal_test

import (
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// vanishing dials connections whose other end can vanish without a word: what is written goes
// nowhere, and nothing comes back, as when a firewall has forgotten a connection.
type vanishing struct {
	mu    sync.Mutex
	conns []*vanishingConn // guarded by mu
}

type vanishingConn struct {
	net.Conn
	vanished  atomic.Bool
	closed    chan struct{}
	closeOnce sync.Once
}

func (v *vanishing) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	c := &vanishingConn{Conn: conn, closed: make(chan struct{})}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns = append(v.conns, c)
	return c, nil
}

// vanish cuts off the other end of the connections that there are.
func (v *vanishing) vanish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.conns {
		c.vanished.Store(true)
	}
}

func (c *vanishingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.vanished.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *vanishingConn) Write(p []byte) (int, error) {
	if c.vanished.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *vanishingConn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A connection whose other end has vanished is made anew by the tail that waits for it, or by
// an Append, long before the pings of nats.go find that.
func TestConnectionThatVanishes(t *testing.T) {
	t.Parallel()
	for _, tailed := range []bool{true, false} {
		name := map[bool]string{true: "a tail finds it", false: "an append finds it"}[tailed]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			var dialer vanishing
			conn, err := nats.Connect(e.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.SetCustomDialer(&dialer))
			require.NoError(t, err)
			t.Cleanup(conn.Close)
			j, other := journal(conn), e.journal()
			f := follow(t, other, broadcast.ID{})
			first := add(t, other, "first")
			f.yields(first, "first")
			if !tailed {
				add(t, j, "second")
				f.yields(nil, "second")
				dialer.vanish()
				f.yields(add(t, j, "third"), "third")
				return
			}
			vanished := follow(t, j, broadcast.ID{})
			vanished.yields(first, "first")
			dialer.vanish()
			vanished.yields(add(t, other, "second"), "second")
		})
	}
}

// A server that answers is left alone while its JetStream is away: others may use the
// connection.
func TestConnectionWithoutJetStream(t *testing.T) {
	longtest.Only(t)
	t.Parallel()
	e := startEngine(t)
	j := e.journal()
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "first"), "first")
	require.NoError(t, e.DisableJetStream())
	_, err := f.next()
	require.Error(t, err)
	require.Zero(t, j.Conn.Stats().Reconnects)
	require.True(t, j.Conn.IsConnected())
}

// A connection of Connect outlives refused authentications, and an engine that is away when
// it is made.
func TestConnect(t *testing.T) {
	t.Parallel()
	allow := func(password string) func(*server.Options) {
		return func(o *server.Options) { o.Username, o.Password = "node", password }
	}
	e := startEngine(t, allow("right"))
	e.stop()
	var refused atomic.Int32
	count := func(_ *nats.Conn, err error) {
		if strings.Contains(strings.ToLower(err.Error()), "authorization") {
			refused.Add(1)
		}
	}
	conn, err := natsjournal.Connect(strings.Replace(e.ClientURL(), "nats://", "nats://node:right@", 1),
		nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0), nats.ReconnectErrHandler(count),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { count(nil, err) }))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	e.start()
	j := journal(conn)
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "first"), "first")

	e.stop()
	allow("wrong")(&e.options)
	e.start()
	require.Eventually(t, func() bool { return refused.Load() > 3 }, soon, moment)
	require.False(t, conn.IsClosed())
	e.stop()
	allow("right")(&e.options)
	e.start()
	f.yields(add(t, j, "second"), "second")
}

// A connection that is closed for good is logged as an error, once.
func TestConnectionThatIsClosed(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j := e.journal()
	var log logged
	j.Logger = slog.New(slog.NewTextHandler(&log, nil))
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "first"), "first")
	j.Conn.Close()
	for range 3 {
		_, err := f.next()
		require.ErrorIs(t, err, natsjournal.ErrUnusable)
		require.ErrorIs(t, err, nats.ErrConnectionClosed)
		f = follow(t, j, broadcast.ID{})
	}
	require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), "%s", &log)
	require.Contains(t, log.String(), "closed for good")
}
