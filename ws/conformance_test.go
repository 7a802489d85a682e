package ws_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/conformance"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/ws"
)

// subject is an end of a connection that sends back each message. Its peer sends what a
// vector contains.
type subject struct {
	name   string
	strict bool // a message is sent back before the next frame is read
	// connect returns the peer, and a channel for the error of the subject's Read; nil if
	// that cannot be known.
	connect func(n *network, o ws.Options) (*peer, <-chan error)
}

var subjects = []subject{
	{"ws.Upgrade", true, func(n *network, o ws.Options) (*peer, <-chan error) {
		ended := make(chan error, 1)
		n.server.Handler = echoServer(&o, ended)
		return n.agreed(o), ended
	}},
	{"ws.Handler, detached", false, func(n *network, o ws.Options) (*peer, <-chan error) {
		n.server.Handler = &ws.Handler{
			Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Encode: ws.Raw, Detach: true, Options: o, Logger: silent,
			Receive: func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
				return func(t ws.MessageType, data []byte) error { return c.Write(context.Background(), t, data) }
			},
		}
		return n.agreed(o), nil
	}},
	{"ws.Dial", true, func(n *network, o ws.Options) (*peer, <-chan error) {
		p, c := n.accept(o, "")
		ended := make(chan error, 1)
		go func() { ended <- echo(c) }()
		return p, ended
	}},
}

// agreed connects a peer, with permessage-deflate if that is an option.
func (n *network) agreed(o ws.Options) *peer {
	n.t.Helper()
	if !o.Compression {
		return n.raw("/", "")
	}
	p, _ := n.offer("/", "permessage-deflate")
	return p
}

// accept connects this package's client to a peer.
func (n *network) accept(o ws.Options, headers string) (*peer, *ws.Conn) {
	n.t.Helper()
	if o.Compression {
		headers += "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
	}
	peers := make(chan *peer, 1)
	n.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+headers+
			"Sec-WebSocket-Accept: "+accept(r.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n")
		peers <- &peer{n.t, conn, buffered.Reader, true}
	})
	c := n.dial("/", o)
	p := <-peers
	n.t.Cleanup(func() { p.Close() })
	return p, c
}

// vector is what a peer sends, and what the subject must do.
type vector struct {
	part, name string
	send       []frame
	wire       func(p *peer) string // instead of send, for what is not valid frames
	back       []frame              // messages, in order
	pongs      []string             // in order
	closes     ws.StatusCode        // with which the subject closes; 0: the peer closes
	reason     string               // of closes; empty: any
	is         ws.StatusCode        // the status of its Read; 0: closes
	compressed bool                 // permessage-deflate is agreed on
	large      bool                 // too large to be sent byte by byte
}

func names() (names []string) {
	for _, s := range subjects {
		names = append(names, s.name)
	}
	return names
}

// Each end of a connection keeps RFC 6455 and RFC 7692.
func TestConformance(t *testing.T) {
	table := &conformance.Table{Columns: names()}
	handshakes(t, table)
	for _, vectors := range [][]vector{framings(), fragments(), reserved(), controls(), closings(), unicode(), sizes(), deflated()} {
		for _, v := range vectors {
			for _, s := range subjects {
				table.Run(t, v.part, s.name, v.name, func(t *testing.T) { v.try(t, s) })
			}
		}
	}
	offers(t, table)
	answers(t, table)
	if flag.Lookup("test.run").Value.String() == "" {
		table.Check(t, "../docs/conformance.md", "RFC 6455")
	}
}

// A Handler whose connections are watched, over TCP, does the same as one that reads all the time.
// Byte by byte only in the long form: TestConformance has that in memory.
func TestConformanceOverTCP(t *testing.T) {
	overTCP := []int{whole}
	if longtest.Enabled() {
		overTCP = []int{whole, 1}
	}
	for _, vectors := range [][]vector{framings(), fragments(), reserved(), controls(), closings(), unicode(), sizes(), deflated()} {
		for _, v := range vectors {
			for _, s := range subjects {
				if s.name == "ws.Handler, detached" {
					t.Run(v.part+", "+v.name, func(t *testing.T) { v.tryOn(t, s, serveTCP, overTCP...) })
				}
			}
		}
	}
}

// try sends a vector in one piece, and byte by byte.
func (v vector) try(t *testing.T, s subject) { v.tryOn(t, s, serve, whole, 1) }

// whole is a piece larger than each vector.
const whole = 1 << 30

// tryOn sends a vector on a network of its own kind, once for each size of the pieces.
func (v vector) tryOn(t *testing.T, s subject, serve func(*testing.T, http.Handler, func(*testing.T, *network)), pieces ...int) {
	for _, piece := range pieces {
		if piece == 1 && v.large {
			break
		}
		serve(t, nil, func(t *testing.T, n *network) {
			p, ended := s.connect(n, ws.Options{MaxMessage: 16 << 20, Compression: v.compressed})
			out := p.frames(v.send...)
			if v.wire != nil {
				out = v.wire(p)
			}
			go p.trickle(out, piece)
			v.want(p, s.strict)
			p.Close()
			is := v.is
			switch {
			case ended == nil:
				return
			case is == 0 && v.closes == 0:
				is = 1000
			case is == 0:
				is = v.closes
			}
			require.Equal(t, is, ws.CloseStatus(<-ended))
		})
	}
}

// want requires what the subject has to send, and ends the connection.
func (v vector) want(p *peer, strict bool) {
	p.t.Helper()
	began := time.Now()
	back := v.answers(p)
	// A subject that answers in the background may have closed the connection before.
	if !strict && v.closes != 0 {
		require.LessOrEqual(p.t, len(back), len(v.back))
		v.back = v.back[:len(back)]
	}
	require.Equal(p.t, len(v.back), len(back), "%v", back)
	for i := range back {
		require.True(p.t, v.back[i] == back[i], "%v for %v", back[i], v.back[i])
	}
	_, overTCP := p.Conn.(*net.TCPConn)
	if !overTCP { // else the time is real
		require.Zero(p.t, time.Since(began), "it happens at once")
	}
	normal := p.frames(frame{fin | clos, closing(1000, "")})
	if v.closes == 0 {
		p.write(normal)
		require.Equal(p.t, frame{fin | clos, closing(1000, "")}, p.next())
	} else {
		_, _ = io.WriteString(p.Conn, normal) // it may have gone
	}
	if overTCP && v.closes != 0 { // a kernel resets a connection that has gone
		b, err := io.ReadAll(p.r)
		require.Empty(p.t, b)
		require.True(p.t, err == nil || errors.Is(err, syscall.ECONNRESET), "%v", err)
		return
	}
	if p.masked { // a client waits for its server to hang up (RFC 6455 section 7.1.1)
		require.NoError(p.t, p.Conn.Close())
		return
	}
	p.ends()
}

// answers returns the messages that come back, up to the last one and the last pong, or
// up to the close frame of the subject.
func (v vector) answers(p *peer) (back []frame) {
	p.t.Helper()
	pongs := v.pongs
	for v.closes != 0 || len(back) < len(v.back) || len(pongs) > 0 {
		f := p.next()
		switch {
		case f.first == fin|pong:
			require.NotEmpty(p.t, pongs, "a pong %q", f.payload)
			require.Equal(p.t, pongs[0], f.payload)
			pongs = pongs[1:]
		case f.first == fin|clos:
			p.closedWith(f, v.closes, v.reason)
			return back
		case f.first&rsv1 != 0 && v.compressed:
			back = append(back, frame{f.first &^ rsv1, inflate(p.t, f.payload)})
		default:
			back = append(back, f)
		}
	}
	return back
}

// closedWith requires a close frame with a code; 1005 stands for none.
func (p *peer) closedWith(f frame, code ws.StatusCode, reason string) {
	p.t.Helper()
	if code == ws.StatusNoStatusReceived {
		require.Empty(p.t, f.payload)
		return
	}
	require.True(p.t, strings.HasPrefix(f.payload, closing(code, "")), "%d wanted, and %q", code, f.payload)
	if reason != "" {
		require.Equal(p.t, closing(code, reason), f.payload)
	}
}

// frames returns frames of the peer.
func (p *peer) frames(frames ...frame) string {
	var b strings.Builder
	for _, f := range frames {
		if p.masked { // is a server
			b.WriteString(unmasked(f.first, f.payload))
		} else {
			b.WriteString(masked(f.first, f.payload))
		}
	}
	return b.String()
}

// trickle sends in pieces, until all is sent or the other side has ended the connection.
func (p *peer) trickle(out string, piece int) {
	for len(out) > 0 {
		n := min(piece, len(out))
		if _, err := io.WriteString(p.Conn, out[:n]); err != nil {
			return
		}
		out = out[n:]
	}
}
