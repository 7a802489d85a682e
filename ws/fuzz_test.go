package ws_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/ws"
)

// A frame reads back as it was written, with a slower reader.
func FuzzFrame(f *testing.F) {
	for _, size := range []int{0, 1, 7, 8, 9, 125, 126, 65535, 65536} {
		f.Add(byte(fin|text), bytes.Repeat([]byte("x"), size), true)
		f.Add(byte(bin), bytes.Repeat([]byte{0xff}, size), false)
	}
	f.Fuzz(func(t *testing.T, opcode byte, payload []byte, client bool) {
		opcode &= 0xf
		b := ws.AppendFrame([]byte("before"), opcode, payload, client)
		b, found := bytes.CutPrefix(b, []byte("before"))
		if !found || b[0] != 0x80|opcode || (b[1]&0x80 != 0) != client {
			t.Fatalf("%x", b[:2])
		}
		size, rest := uint64(b[1]&0x7f), b[2:]
		switch size {
		case 126:
			size, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]
			if size < 126 {
				t.Fatal("not the shortest form of the length")
			}
		case 127:
			size, rest = binary.BigEndian.Uint64(rest), rest[8:]
			if size <= 0xffff {
				t.Fatal("not the shortest form of the length")
			}
		}
		if client {
			key := rest[:4]
			rest = rest[4:]
			for i := range rest {
				rest[i] ^= key[i%4]
			}
		}
		if size != uint64(len(payload)) || !bytes.Equal(rest, payload) {
			t.Fatalf("%d bytes became %d", len(payload), len(rest))
		}
	})
}

// A close frame that parses is written back the same.
func FuzzClose(f *testing.F) {
	f.Add([]byte(unmasked(fin|clos, closing(1000, "bye"))))
	f.Add([]byte(masked(fin|clos, closing(4999, "\xff"))))
	f.Add([]byte(masked(fin|clos, "")))
	f.Add([]byte(masked(fin|clos, "\x03")))
	f.Fuzz(func(t *testing.T, b []byte) {
		why, err := ws.ParseClose(b)
		if err != nil {
			return
		}
		for _, client := range []bool{false, true} {
			again, err := ws.ParseClose(ws.AppendClose(nil, why, client))
			if err != nil {
				t.Fatal(err)
			}
			if again.Code != why.Code || !strings.HasPrefix(why.Reason, again.Reason) {
				t.Fatalf("%v became %v", why, again)
			}
			if len(why.Reason) <= 123 && why.Code != ws.StatusNoStatusReceived && again.Reason != why.Reason {
				t.Fatalf("%v became %v", why, again)
			}
		}
	})
}

// Whatever bytes follow the handshake, a server answers in whole frames, unmasked, with
// nothing after a close frame, and then ends the connection.
func FuzzServer(f *testing.F) {
	f.Add([]byte(masked(fin|text, "hello") + masked(fin|clos, closing(1000, ""))))
	f.Add([]byte(masked(text, "hel") + masked(fin|ping, "now") + masked(fin|cont, "lo")))
	f.Add([]byte(masked(fin|text, "\xff")))
	f.Add([]byte(unmasked(fin|bin, "x") + strings.Repeat("\x00", 600)))
	f.Add([]byte(masked(fin|bin, strings.Repeat("x", 2000))))
	f.Add([]byte("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00x"))
	f.Add([]byte("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00x"))
	f.Add([]byte(masked(fin|clos, "\x03")))
	f.Add([]byte(masked(fin|clos, closing(1000, "\xff"))))

	listener := memnet.Listen()
	h := &ws.Handler{
		Broadcaster: new(broadcast.Hub),
		Topics:      []string{"a"},
		Options:     ws.Options{MaxMessage: 1000, WriteTimeout: 5 * time.Second},
		Logger:      silent,
		Receive: func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			return func(typ ws.MessageType, data []byte) error {
				if typ == ws.Text && !utf8.Valid(data) {
					panic("text that is not UTF-8 was handed over")
				}
				err := c.Write(context.Background(), typ, data)
				if errors.Is(err, net.ErrClosed) {
					return nil
				}
				return err
			}
		},
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	f.Cleanup(server.Close)

	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := listener.DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		r := bufio.NewReader(conn)
		go func() {
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			if err == nil {
				_, _ = conn.Write(sent)
				// This ends the connection unless the bytes before have, or end within a frame.
				_, _ = io.WriteString(conn, masked(fin|clos, closing(1000, "")))
				_, _ = io.WriteString(conn, strings.Repeat("\x00", 70_000))
				conn.Close()
			}
		}()
		if _, err := http.ReadResponse(r, nil); err != nil {
			t.Fatal(err)
		}
		closed := false
		for {
			frame, err := readFrame(r, false)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
					t.Fatalf("after %q: %v", sent, err)
				}
				return
			}
			switch frame.first {
			case fin | text, fin | bin, fin | pong, fin | ping:
			case fin | clos:
				if why := frame.payload; len(why) == 1 || len(why) > 2 && !utf8.ValidString(why[2:]) {
					t.Fatalf("after %q a close frame with %q", sent, why)
				}
			default:
				t.Fatalf("after %q the frame %v", sent, frame)
			}
			if closed {
				t.Fatalf("after %q %v after a close frame", sent, frame)
			}
			closed = frame.first == fin|clos
		}
	})
}
