package interop_test

//lint:file-ignore SA1019 The test is about clients that still use the old import path.

import (
	"context"
	"errors"

	nhooyr "nhooyr.io/websocket"
)

type nhooyrSocket struct{ conn *nhooyr.Conn }

func dialNhooyr(ctx context.Context, d dialing) (socket, error) {
	options := &nhooyr.DialOptions{Subprotocols: []string{d.subprotocol}}
	if d.compress {
		options.CompressionMode = nhooyr.CompressionNoContextTakeover
	}
	conn, _, err := nhooyr.Dial(ctx, d.url, options)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(1 << 20)
	return nhooyrSocket{conn}, nil
}

func (s nhooyrSocket) Read() (message, error) {
	typ, data, err := s.conn.Read(context.Background())
	if closing := (nhooyr.CloseError{}); errors.As(err, &closing) {
		return message{}, closed{int(closing.Code), closing.Reason}
	}
	return message{typ == nhooyr.MessageBinary, string(data)}, err
}

func (s nhooyrSocket) Write(m message) error {
	typ := nhooyr.MessageText
	if m.binary {
		typ = nhooyr.MessageBinary
	}
	return s.conn.Write(context.Background(), typ, []byte(m.data))
}

func (s nhooyrSocket) Close(code int, reason string) error {
	return s.conn.Close(nhooyr.StatusCode(code), reason)
}

func (s nhooyrSocket) Subprotocol() string { return s.conn.Subprotocol() }
