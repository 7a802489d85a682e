package natsjournal_test

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// laggingConn is a connection to an engine whose next answers know less than earlier ones,
// as those of a leader that has just been elected: they say that the stream of nine entries
// ends at the fourth.
type laggingConn struct {
	net.Conn
	answers *atomic.Int32 // how many of them are still to come
}

func (c laggingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	at := bytes.Index(p[:n], []byte(`"last_seq":9`))
	if at >= 0 && c.answers.Add(-1) >= 0 {
		p[at+len(`"last_seq":`)] = '4'
	}
	return n, err
}

func (c laggingConn) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return laggingConn{conn, c.answers}, err
}

// A server that reports less than this node has seen is asked again for a while; only then
// has the stream lost entries. With Durable it is an error at once.
func TestLaggingServer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		answers int32
		durable bool
		loses   bool
		fails   bool
	}{
		{name: "for a moment: nothing is lost", answers: 3},
		{name: "for good: a new epoch", answers: 1 << 20, loses: true},
		{name: "for a moment, with Durable: an error, and nothing is lost", answers: 1, durable: true, fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			var answers atomic.Int32
			conn, err := nats.Connect(e.ClientURL(), nats.SetCustomDialer(laggingConn{answers: &answers}))
			require.NoError(t, err)
			t.Cleanup(conn.Close)
			j := journal(conn)
			j.Durable = test.durable
			ids := add(t, j, numbers(0, 9)...)
			answers.Store(test.answers)
			_, newest, err := j.Bounds(within(t))
			if test.fails {
				require.ErrorContains(t, err, "lags behind")
				_, newest, err = j.Bounds(within(t))
			}
			require.NoError(t, err)
			if test.loses {
				require.NotEqual(t, ids[8].Epoch(), newest.Epoch())
				return
			}
			require.Less(t, answers.Load(), int32(0), "the server is asked until it has caught up")
			require.Equal(t, ids[8], newest)
			follow(t, j, broadcast.ID{}).yields(ids, numbers(0, 9)...)
		})
	}
}
