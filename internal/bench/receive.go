package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// tally is what the receiver has counted.
type tally struct {
	Deliveries int
	Last       int64         // when the last one arrived, in nanoseconds since 1970
	P50, P99   time.Duration // from publishing to arrival
}

// inFrames are the receiver's connections over HTTP/2, by socket.
var inFrames = make(map[int32]*frames)

// receive is the receiver process. It connects and prints a line. Then it reads numbers from
// its standard input, and for each it counts deliveries until there are that many.
func receive(addr, wire string, conns int) error {
	runtime.LockOSThread()
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	for i := range conns {
		fd, err := connect(addr, wire, i)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if wire == "h2" {
			inFrames[int32(fd)] = new(frames)
		}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	fmt.Println("connected")
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		expect, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		got, err := count(epoll, expect, wire)
		if err != nil {
			return err
		}
		if err := out.Encode(got); err != nil {
			return err
		}
	}
	return in.Err()
}

// connect opens a connection, does the handshake and returns the socket.
func connect(addr, wire string, i int) (fd int, err error) {
	// One local address does not have enough ports.
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/4000))}}
	c, err := dialer.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	request := "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
	if wire != "sse" {
		request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	}
	if wire == "h2" {
		if err := openHTTP2(c); err != nil {
			return 0, err
		}
		return raw(c)
	}
	if _, err := c.Write([]byte(request)); err != nil {
		return 0, err
	}
	if wire == "sse" {
		return raw(c) // some libraries send the header with the first message
	}
	head, b := "", make([]byte, 1)
	for !bytes.HasSuffix([]byte(head), []byte("\r\n\r\n")) {
		if _, err := c.Read(b); err != nil {
			return 0, fmt.Errorf("%w after %q", err, head)
		}
		head += string(b)
	}
	if wire == "centrifuge" {
		command := `{"id":1,"connect":{}}`
		frame := append([]byte{0x81, 0x80 | byte(len(command)), 0, 0, 0, 0}, command...) // the mask is 0
		if _, err := c.Write(frame); err != nil {
			return 0, err
		}
	}
	return raw(c)
}

// raw returns a duplicate of the socket of a connection, which stays open when that is closed.
func raw(c net.Conn) (fd int, err error) {
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return 0, err
	}
	fd, err = syscall.Dup(int(file.Fd()))
	file.Close()
	if err != nil {
		return 0, err
	}
	return fd, syscall.SetNonblock(fd, true)
}

// silence is how long nothing arrives before the missing deliveries count as lost.
const silence = 5 * time.Second

// count counts deliveries until there are as many as expected.
func count(epoll, expect int, wire string) (t tally, err error) {
	events := make([]syscall.EpollEvent, 256)
	buf, data := make([]byte, 1<<20), make([]byte, 0, 1<<20)
	var latencies []time.Duration
	for last := time.Now(); t.Deliveries < expect; {
		n, err := syscall.EpollWait(epoll, events, 100)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return t, err
		}
		for _, e := range events[:max(0, n)] {
			k, err := syscall.Read(int(e.Fd), buf)
			if err == syscall.EAGAIN {
				continue
			}
			if err != nil || k == 0 {
				return t, fmt.Errorf("a connection was closed: %v", err)
			}
			got := buf[:k]
			if wire == "h2" {
				data = inFrames[e.Fd].data(data[:0], got)
				got = data
			}
			marks := bytes.Count(got, []byte("@"))
			if marks == 0 {
				continue
			}
			t.Deliveries += marks
			now := time.Now()
			last = now
			if i := bytes.IndexByte(got, '@'); marks == 1 && i+17 <= k {
				if sent, err := strconv.ParseInt(string(got[i+1:i+17]), 16, 64); err == nil {
					latencies = append(latencies, time.Duration(now.UnixNano()-sent))
				}
			}
		}
		if time.Since(last) > silence {
			break
		}
		t.Last = last.UnixNano()
	}
	if slices.Sort(latencies); len(latencies) > 0 {
		t.P50, t.P99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	}
	return t, nil
}
