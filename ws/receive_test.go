package ws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// Receive's function gets the messages in order, one at a time. Its errors close the
// connection with their codes, and those that are faults are logged.
func TestReceive(t *testing.T) {
	hub := &broadcast.Hub{}
	log := &logbook{}
	serve(t, nil, func(t *testing.T, n *network) {
		var got []string
		var running atomic.Int32
		gate := make(chan struct{})
		n.server.Handler = &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: log.logger(),
			Options: ws.Options{MaxMessage: 1000, MessageRate: 100, PingInterval: 30 * time.Second},
			Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
				if r.URL.Path == "/panic" {
					panic("in Receive")
				}
				return func(typ ws.MessageType, data []byte) error {
					assert.EqualValues(t, 1, running.Add(1), "never twice at once")
					defer running.Add(-1)
					switch s := string(data); s {
					case "stop":
						return io.EOF
					case "kick":
						return fmt.Errorf("wrapped: %w", &ws.CloseError{Code: 4001, Reason: "kicked"})
					case "fail":
						return errors.New("its words are not for the client")
					case "panic":
						panic("in the function")
					case "wait":
						<-gate
					case "answer":
						return c.Write(context.Background(), ws.Text, []byte("answered"))
					default:
						got = append(got, s)
					}
					return nil
				}
			}}
		open := func(path string) *peer {
			p := n.raw(path, "")
			p.receives(ready(position(t, hub)))
			return p
		}
		for what, code := range map[string]ws.StatusCode{"stop": 1000, "kick": 4001, "fail": 1011, "panic": 1011} {
			p := open("/")
			p.write(masked(fin|text, what) + masked(fin|text, "never received"))
			reason := p.closes(code)
			if code == 4001 {
				require.Equal(t, "kicked", reason)
			} else {
				require.Empty(t, reason)
			}
		}
		open("/panic").closes(1011)
		synctest.Wait()
		require.Equal(t, 3, log.events("Handler.Receive"))
		require.Empty(t, got)

		p := open("/")
		p.write(masked(fin|text, "answer"))
		p.receives("answered")
		// While the function runs, messages are read on, up to MaxMessage bytes of them.
		p.write(masked(fin|text, "wait"))
		for i := range 10 {
			p.write(masked(fin|text, fmt.Sprint(i)))
		}
		p.write(masked(fin|ping, "still there?"))
		require.Equal(t, frame{fin | pong, "still there?"}, p.next())
		// Beyond that nothing is read, and silence does not count.
		stuck := make(chan struct{})
		go func() {
			defer close(stuck)
			for i := range 30 {
				io.WriteString(p.Conn, masked(fin|text, fmt.Sprint(i+10)+strings.Repeat(" ", 100)))
			}
		}()
		p.SetReadDeadline(time.Time{})
		go io.Copy(io.Discard, p.Conn) // pings
		time.Sleep(10 * time.Minute)
		select {
		case <-stuck:
			require.Fail(t, "all was read")
		default:
		}
		close(gate)
		<-stuck
		synctest.Wait()
		require.Len(t, got, 40)
		for i, s := range got {
			require.Equal(t, fmt.Sprint(i), strings.TrimSpace(s), "in order")
		}
		p.Close()
	})
}

// A Handler refuses messages that it has no use for, or that are not allowed.
func TestHandlerRefusesMessages(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		p.write(masked(fin|text, "hello"))
		p.closes(ws.StatusPolicyViolation)
		p = n.raw("/", "")
		p.next()
		p.write(unmasked(fin|text, "hello"))
		p.closes(ws.StatusProtocolError)
		p = n.raw("/", "")
		p.next()
		go io.WriteString(p.Conn, masked(fin|text, strings.Repeat("x", 40_000)))
		p.closes(ws.StatusMessageTooBig)
		synctest.Wait()
	})
}

// A peer would refuse a close frame whose reason is not UTF-8.
func TestReasonOfReceiveIsSentAsUTF8(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent,
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, b []byte) error { return &ws.CloseError{Code: 4001, Reason: "no room \xff"} }
		}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		p.write(masked(fin|text, "A"))
		got := p.closes(4001)
		require.True(t, utf8.ValidString(got), "%q", got)
	})
}

// Nor messages that were read before.
func TestReceiveGetsNothingAfterItsError(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, nil, func(t *testing.T, n *network) {
		var got []string
		gate := make(chan struct{})
		n.server.Handler = &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent, Options: ws.Options{MaxMessage: 1000},
			Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
				return func(_ ws.MessageType, b []byte) error {
					got = append(got, string(b[:1]))
					if b[0] == 'A' {
						<-gate
						return io.EOF
					}
					return nil
				}
			}}
		p := n.raw("/", "")
		p.next()
		p.write(masked(fin|text, "A"+strings.Repeat("x", 899)))
		p.write(masked(fin|text, "B"+strings.Repeat("x", 899)))
		synctest.Wait()
		close(gate)
		p.closes(1000)
		synctest.Wait()
		require.Equal(t, []string{"A"}, got)
	})
}

// While Receive's function is slow nothing is read. The messages that are read at once
// afterwards were sent at a rate that is allowed.
func TestMessageRateAllowsForTimeWithoutReading(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent,
		Options: ws.Options{MaxMessage: 1000, MessageRate: 5},
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, b []byte) error {
				if b[0] == '0' {
					time.Sleep(10 * time.Second) // a slow database, once
				}
				return nil
			}
		}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		queue := make(chan string, 1000)
		stop := make(chan struct{})
		go func() {
			for s := range queue {
				io.WriteString(p.Conn, s)
			}
		}()
		go func() {
			for i := range 60 { // 2 a second, where 5 are allowed
				queue <- masked(fin|text, fmt.Sprint(i)+strings.Repeat("x", 200))
				select {
				case <-stop:
					close(queue)
					return
				case <-time.After(500 * time.Millisecond):
				}
			}
			close(queue)
		}()
		p.SetReadDeadline(time.Now().Add(29 * time.Second))
		f, err := readFrame(p.r, false)
		assert.Error(t, err, "%v", f)
		p.Close()
		close(stop)
		synctest.Wait()
		time.Sleep(time.Minute)
	})
}

// It is not logged as an error: the function could not answer a client that has left.
func TestReceiveErrorAfterTheClientHasLeftIsNoFault(t *testing.T) {
	hub := &broadcast.Hub{}
	log := &logbook{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: log.logger(),
		Receive: func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			return func(typ ws.MessageType, b []byte) error {
				time.Sleep(time.Second)
				return c.Write(c.Context(), typ, b)
			}
		}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		p.write(masked(fin|text, "hi"))
		synctest.Wait()
		p.Close()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Zero(t, log.count("level=ERROR"), log.text.String())
	})
}
