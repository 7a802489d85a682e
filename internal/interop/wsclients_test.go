package interop_test

import (
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"github.com/gobwas/httphead"
	gobwas "github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"
	"github.com/lxzan/gws"
)

// socket is a WebSocket of another project, used as its documentation says.
type socket interface {
	Read() (message, error) // the error is a closed if the server has sent a close frame
	Write(message) error
	Close(code int, reason string) error // returns when the connection has ended
	Subprotocol() string
}

type message struct {
	binary bool
	data   string
}

type closed struct {
	code   int
	reason string
}

func (c closed) Error() string { return fmt.Sprintf("closed with %d %q", c.code, c.reason) }

// dialing is what a client asks for.
type dialing struct {
	url         string // with the scheme ws
	subprotocol string
	compress    bool
}

type socketClient struct {
	name string
	dial func(context.Context, dialing) (socket, error)

	answer1012  int    // the code with which it answers a close frame with 1012
	answers     string // why that is not 1012
	blind       string // why its user does not see the 1012 and the server gets no answer
	closesTwice string // why it may send two close frames
	hangsUp     string // why it does not wait for the answer to its close frame
}

// socketClients are clients of other projects. Where one differs from RFC 6455 or from the
// others, its fields say why: the handler does not adapt to it.
var socketClients = []socketClient{
	{
		name: "nhooyr", dial: dialNhooyr, answer1012: 1012,
		closesTwice: "it sometimes replies to the answer to its own close frame, after which RFC 6455 5.5.1 allows no frame",
	},
	{name: "coder", dial: dialCoder, answer1012: 1012},
	{name: "gorilla", dial: dialGorilla, answer1012: 1012},
	{
		name: "gobwas", dial: dialGobwas,
		blind: "it treats the codes registered after RFC 6455, 1012 to 1014, as a protocol error; " +
			"the close frame that it then sends has a masked payload but no mask bit, since the result of MaskFrameInPlace is not used",
		closesTwice: "wsutil's handler answers every close frame, also the answer to its own, after which RFC 6455 5.5.1 allows no frame",
	},
	{
		name: "gws", dial: dialGWS, answer1012: 1000,
		answers: "it answers all codes below 1016 with 1000, where RFC 6455 5.5.1 has them echoed as a rule",
		hangsUp: "WriteClose closes the TCP connection right after its frame, where RFC 6455 7.1.1 has a client wait for the server to close",
	},
}

type coderSocket struct{ conn *websocket.Conn }

func dialCoder(ctx context.Context, d dialing) (socket, error) {
	options := &websocket.DialOptions{Subprotocols: []string{d.subprotocol}}
	if d.compress {
		options.CompressionMode = websocket.CompressionContextTakeover // the server declines it
	}
	conn, _, err := websocket.Dial(ctx, d.url, options)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(1 << 20)
	return coderSocket{conn}, nil
}

func (s coderSocket) Read() (message, error) {
	typ, data, err := s.conn.Read(context.Background())
	if closing := (websocket.CloseError{}); errors.As(err, &closing) {
		return message{}, closed{int(closing.Code), closing.Reason}
	}
	return message{typ == websocket.MessageBinary, string(data)}, err
}

func (s coderSocket) Write(m message) error {
	typ := websocket.MessageText
	if m.binary {
		typ = websocket.MessageBinary
	}
	return s.conn.Write(context.Background(), typ, []byte(m.data))
}

func (s coderSocket) Close(code int, reason string) error {
	return s.conn.Close(websocket.StatusCode(code), reason)
}

func (s coderSocket) Subprotocol() string { return s.conn.Subprotocol() }

type gorillaSocket struct{ conn *gorilla.Conn }

func dialGorilla(ctx context.Context, d dialing) (socket, error) {
	dialer := gorilla.Dialer{Subprotocols: []string{d.subprotocol}, EnableCompression: d.compress}
	conn, _, err := dialer.DialContext(ctx, d.url, nil)
	return gorillaSocket{conn}, err
}

func (s gorillaSocket) Read() (message, error) {
	typ, data, err := s.conn.ReadMessage()
	if closing := (*gorilla.CloseError)(nil); errors.As(err, &closing) {
		s.conn.Close()
		return message{}, closed{closing.Code, closing.Text}
	}
	return message{typ == gorilla.BinaryMessage, string(data)}, err
}

func (s gorillaSocket) Write(m message) error {
	typ := gorilla.TextMessage
	if m.binary {
		typ = gorilla.BinaryMessage
	}
	return s.conn.WriteMessage(typ, []byte(m.data))
}

// Close does the close handshake, which the library leaves to its users.
func (s gorillaSocket) Close(code int, reason string) error {
	defer s.conn.Close()
	if err := s.conn.WriteMessage(gorilla.CloseMessage, gorilla.FormatCloseMessage(code, reason)); err != nil {
		return err
	}
	return untilClosed(s, code)
}

func (s gorillaSocket) Subprotocol() string { return s.conn.Subprotocol() }

// untilClosed reads until the server has answered a close frame.
func untilClosed(s socket, code int) error {
	for {
		_, err := s.Read()
		if answer := (closed{}); errors.As(err, &answer) && answer.code == code {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type gobwasSocket struct {
	conn        net.Conn
	reader      *wsutil.Reader
	compression *wsflate.MessageState
	subprotocol string
}

func dialGobwas(ctx context.Context, d dialing) (socket, error) {
	dialer := gobwas.Dialer{Protocols: []string{d.subprotocol}}
	if d.compress {
		dialer.Extensions = []httphead.Option{wsflate.DefaultParameters.Option()}
	}
	conn, ahead, handshake, err := dialer.Dial(ctx, d.url)
	if err != nil {
		return nil, err
	}
	var src io.Reader = conn
	if ahead != nil { // frames that arrived with the response
		src = bufio.NewReader(io.MultiReader(io.LimitReader(ahead, int64(ahead.Buffered())), conn))
	}
	s := &gobwasSocket{conn: conn, subprotocol: handshake.Protocol}
	s.reader = &wsutil.Reader{Source: src, State: gobwas.StateClientSide, OnIntermediate: wsutil.ControlFrameHandler(conn, gobwas.StateClientSide)}
	if len(handshake.Extensions) > 0 {
		s.compression = new(wsflate.MessageState)
		s.reader.State = s.reader.State.Set(gobwas.StateExtended)
		s.reader.Extensions = []wsutil.RecvExtension{s.compression}
	}
	return s, nil
}

// Read closes the connection after an error, which the library leaves to its users.
func (s *gobwasSocket) Read() (_ message, err error) {
	defer func() {
		if err != nil {
			s.conn.Close()
		}
	}()
	for {
		header, err := s.reader.NextFrame()
		if err != nil {
			return message{}, err
		}
		if header.OpCode.IsControl() {
			err := s.reader.OnIntermediate(header, s.reader)
			if closing := (wsutil.ClosedError{}); errors.As(err, &closing) {
				return message{}, closed{int(closing.Code), closing.Reason}
			}
			if err != nil {
				return message{}, err
			}
			continue
		}
		var src io.Reader = s.reader
		if s.compression != nil && s.compression.IsCompressed() {
			src = wsflate.NewReader(src, func(r io.Reader) wsflate.Decompressor { return flate.NewReader(r) })
		}
		data, err := io.ReadAll(src)
		return message{header.OpCode == gobwas.OpBinary, string(data)}, err
	}
}

func (s *gobwasSocket) Write(m message) error {
	code := gobwas.OpText
	if m.binary {
		code = gobwas.OpBinary
	}
	f := gobwas.NewFrame(code, true, []byte(m.data))
	if s.compression != nil {
		var err error
		if f, err = wsflate.CompressFrame(f); err != nil {
			return err
		}
	}
	return s.write(f)
}

// write writes a frame with one Write, because pongs may be written at the same time.
func (s *gobwasSocket) write(f gobwas.Frame) error {
	b, err := gobwas.CompileFrame(gobwas.MaskFrameInPlace(f))
	if err != nil {
		return err
	}
	_, err = s.conn.Write(b)
	return err
}

func (s *gobwasSocket) Close(code int, reason string) error {
	defer s.conn.Close()
	if err := s.write(gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(gobwas.StatusCode(code), reason))); err != nil {
		return err
	}
	return untilClosed(s, code)
}

func (s *gobwasSocket) Subprotocol() string { return s.subprotocol }

// gwsSocket turns the library's callbacks into blocking calls.
type gwsSocket struct {
	gws.BuiltinEventHandler
	conn  *gws.Conn
	in    chan message
	ended chan struct{} // closed when err is set
	err   error
	done  sync.WaitGroup
}

func dialGWS(_ context.Context, d dialing) (socket, error) {
	s := &gwsSocket{in: make(chan message, 100), ended: make(chan struct{})}
	conn, _, err := gws.NewClient(s, &gws.ClientOption{
		Addr:              d.url,
		RequestHeader:     http.Header{"Sec-Websocket-Protocol": {d.subprotocol}},
		PermessageDeflate: gws.PermessageDeflate{Enabled: d.compress},
		CheckUtf8Enabled:  true,
	})
	if err != nil {
		return nil, err
	}
	s.conn = conn
	s.done.Go(conn.ReadLoop)
	return s, nil
}

// OnPing sends the pong, which the library leaves to its users.
func (s *gwsSocket) OnPing(conn *gws.Conn, payload []byte) { _ = conn.WritePong(payload) }

func (s *gwsSocket) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	s.in <- message{m.Opcode == gws.OpcodeBinary, strings.Clone(m.Data.String())}
}

func (s *gwsSocket) OnClose(_ *gws.Conn, err error) {
	s.err = err
	if closing := (*gws.CloseError)(nil); errors.As(err, &closing) {
		s.err = closed{int(closing.Code), string(closing.Reason)}
	}
	close(s.ended)
}

func (s *gwsSocket) Read() (message, error) {
	select {
	case m := <-s.in:
		return m, nil
	case <-s.ended:
	}
	select {
	case m := <-s.in: // what arrived before the end
		return m, nil
	default:
		return message{}, s.err
	}
}

func (s *gwsSocket) Write(m message) error {
	code := gws.OpcodeText
	if m.binary {
		code = gws.OpcodeBinary
	}
	return s.conn.WriteMessage(code, []byte(m.data))
}

func (s *gwsSocket) Close(code int, reason string) error {
	err := s.conn.WriteClose(uint16(code), []byte(reason))
	s.done.Wait()
	return err
}

func (s *gwsSocket) Subprotocol() string { return s.conn.SubProtocol() }
