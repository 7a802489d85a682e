package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// bare is the lower bound: one write(2) for each message and connection, in a loop.
type bare struct {
	mu    sync.Mutex // guards the fields below; write keeps it, since there is one publisher
	fds   []int
	conns []net.Conn // referenced, so that the garbage collector does not close them
}

func (b *bare) add(c net.Conn) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		panic(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
	_ = raw.Control(func(fd uintptr) { b.fds = append(b.fds, int(fd)) })
}

func (b *bare) write(frame []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fd := range b.fds {
		for rest := frame; len(rest) > 0; {
			n, err := syscall.Write(fd, rest)
			if err == syscall.EAGAIN {
				continue // until the receiver has caught up
			}
			if err != nil {
				break
			}
			rest = rest[n:]
		}
	}
}

func hijack(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	return c, rw
}

func bareWebSocket() (http.Handler, func([]byte)) {
	var b bare
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		c, _ := hijack(w)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
			base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
		b.add(c)
	})
	return h, func(payload []byte) {
		frame := []byte{0x81}
		switch n := len(payload); {
		case n < 126:
			frame = append(frame, byte(n))
		case n < 1<<16:
			frame = append(frame, 126, byte(n>>8), byte(n))
		default:
			frame = append(frame, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		}
		b.write(append(frame, payload...))
	}
}

func bareSSE() (http.Handler, func([]byte)) {
	var b bare
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := hijack(w)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
		b.add(c)
	})
	return h, func(payload []byte) { b.write(append(append([]byte("data: "), payload...), "\n\n"...)) }
}
