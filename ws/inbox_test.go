package ws_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// Also not what had been read by then.
func TestNothingIsHandedOverAfterAnError(t *testing.T) {
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

// While Receive's function takes its time nothing is read: what comes at once
// afterwards was sent at a rate that is allowed.
func TestRateForgivesWhatWaited(t *testing.T) {
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

// It is nobody's fault, and no error of ours.
func TestAnswerToAClientThatHasLeft(t *testing.T) {
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
		p.write(masked(fin|clos, closing(1000, "")))
		p.closes(1000)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Zero(t, log.count("level=ERROR"), log.text.String())
	})
}
