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

// behind is a connection to an engine that knows less than it has told, for so many
// answers, as a leader does that has just been elected: it says that the stream of nine
// entries ends at the fourth.
type behind struct {
	net.Conn
	answers *atomic.Int32
}

func (b behind) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	at := bytes.Index(p[:n], []byte(`"last_seq":9`))
	if at >= 0 && b.answers.Add(-1) >= 0 {
		p[at+len(`"last_seq":`)] = '4'
	}
	return n, err
}

func (b behind) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return behind{conn, b.answers}, err
}

// TestEngineThatIsBehind asks an engine that knows less than this node has seen.
func TestEngineThatIsBehind(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers int32
		durable bool
		loses   bool
		fails   bool
	}{
		{name: "for a moment: it is asked again, and nothing is lost", answers: 3},
		{name: "for good: that is a loss, and another epoch", answers: 1 << 20, loses: true},
		{name: "for a moment, and it loses nothing: an error, and nothing is lost", answers: 1, durable: true, fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := startEngine(t)
			var answers atomic.Int32
			conn, err := nats.Connect(e.ClientURL(), nats.SetCustomDialer(behind{answers: &answers}))
			require.NoError(t, err)
			t.Cleanup(conn.Close)
			j := journal(conn)
			j.Durable = test.durable
			ids := add(t, j, numbers(0, 9)...)
			answers.Store(test.answers)
			_, newest, err := j.Bounds(within(t))
			if test.fails {
				require.ErrorContains(t, err, "is behind")
				_, newest, err = j.Bounds(within(t))
			}
			require.NoError(t, err)
			if test.loses {
				require.NotEqual(t, ids[8].Epoch(), newest.Epoch())
				return
			}
			require.Less(t, answers.Load(), int32(0), "it was asked until it knew")
			require.Equal(t, ids[8], newest)
			follow(t, j, broadcast.ID{}).yields(ids, numbers(0, 9)...)
		})
	}
}
