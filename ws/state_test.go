package ws_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// beginning is a Handler whose clients begin with all that topics a and b keep.
func beginning(hub *broadcast.Hub, detach bool) *ws.Handler {
	return &ws.Handler{Broadcaster: hub, Logger: silent, Detach: detach, Grant: func(*http.Request) (*fanfare.Grant, error) {
		g := &fanfare.Grant{Topics: []string{"a"}, Beginning: true}
		g.Change = func(topics []string) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: topics, Change: g.Change}, nil
		}
		return g, nil
	}}
}

func put(t *testing.T, hub *broadcast.Hub, m broadcast.Message) string {
	t.Helper()
	id, err := hub.Publish(t.Context(), m)
	require.NoError(t, err)
	return id.String()
}

// A beginning is the notice of it, messages without an id, and the position. The envelope of a
// message has its Key, and whether it is a removal, a first or a last event.
func TestBeginningOnTheWire(t *testing.T) {
	for _, detach := range []bool{false, true} {
		hub := &broadcast.Hub{Keep: 2}
		serve(t, beginning(hub, detach), func(t *testing.T, n *network) {
			say(t, hub, "a", "evicted")
			put(t, hub, broadcast.Message{Topic: "a", Key: `"x"`, Type: "set", Data: []byte("1")})
			say(t, hub, "a", "old")
			at := say(t, hub, "a", "older")
			p := n.raw("/", "")
			p.receives(`{"begin":"1-0","partial":["a"],"heartbeat":30}`, `{"topic":"a","data":"old"}`, `{"topic":"a","data":"older"}`,
				`{"topic":"a","type":"set","key":"\"x\"","data":"1"}`, ready(at))
			id := put(t, hub, broadcast.Message{Topic: "a", Key: `"x"`, Removed: true})
			p.receives(`{"id":"` + id + `","topic":"a","key":"\"x\"","removed":true,"data":""}`)
			id = put(t, hub, broadcast.Message{Topic: "a", First: true, Data: []byte("whole")})
			p.receives(`{"id":"` + id + `","topic":"a","first":true,"data":"whole"}`)

			id = put(t, hub, broadcast.Message{Topic: "b", Key: "k", Data: []byte("v")})
			p.write(ask(`"a","b"`))
			p.receives(`{"begin":"1-0","topics":["b"]}`, `{"topic":"b","key":"k","data":"v"}`, `{"topics":["a","b"],"position":"`+id+`"}`)
			p.write(ask(``))
			p.receives(`{"topics":[],"position":"` + id + `"}`)
			p.write(ask(`"b"`))
			p.receives(`{"begin":"1-0"}`, `{"topic":"b","key":"k","data":"v"}`, `{"topics":["b"],"position":"`+id+`"}`)
			p.Close()
			synctest.Wait()
		})
	}
}

// When all topics have ended, the connection closes with 1000, also for a client that comes back.
func TestEndOnTheWire(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, beginning(hub, false), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.receives(`{"begin":"1-0","heartbeat":30}`, ready(position(t, hub)))
		id := put(t, hub, broadcast.Message{Topic: "a", End: true, Data: []byte("bye")})
		p.receives(`{"id":"`+id+`","topic":"a","end":true,"data":"bye"}`, `{"end":"`+id+`"}`)
		p.closes(ws.StatusNormalClosure)
		p = n.raw("/?lastEventId="+id, "")
		p.receives(ready(id), `{"end":"`+id+`"}`)
		p.closes(ws.StatusNormalClosure)

		var got []string
		for m, err := range n.follow("/").Messages(t.Context()) {
			if err != nil {
				require.ErrorIs(t, err, broadcast.ErrBegin)
				got = append(got, "begin")
				continue
			}
			require.True(t, m.End)
			got = append(got, string(m.Data))
		}
		require.Equal(t, []string{"begin", "bye"}, got)
	})
}

// A handler with Raw can report nothing: a beginning is sent without the notice of it, and a
// client that would begin again is closed with 1013.
func TestRawBeginsOnce(t *testing.T) {
	hub := &broadcast.Hub{Keep: 2}
	h := beginning(hub, false)
	h.Encode = ws.Raw
	serve(t, h, func(t *testing.T, n *network) {
		put(t, hub, broadcast.Message{Topic: "a", Key: "k", Data: []byte("v")})
		p := n.raw("/", "")
		p.receives("v")
		id := say(t, hub, "a", "1")
		p.receives("1")
		for range 3 {
			say(t, hub, "a", "more")
			p.receives("more")
		}
		p = n.raw("/?lastEventId="+before(t, id), "")
		p.closes(ws.StatusTryAgainLater)
	})
}

// A Client that begins, is cut anywhere and has changed its topics ends up with the newest value
// of each Key.
func TestClientKeepsAMap(t *testing.T) {
	for cut := 200; cut < 8000; cut += 191 {
		hub := &broadcast.Hub{Keep: 16}
		for i := range 40 {
			put(t, hub, broadcast.Message{Topic: "a", Key: fmt.Sprint(i), Data: []byte("old")})
			put(t, hub, broadcast.Message{Topic: "b", Key: fmt.Sprint(i), Data: []byte("old")})
		}
		serve(t, beginning(hub, true), func(t *testing.T, n *network) {
			dials := 0
			n.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := n.listener.DialContext(ctx, network, address)
				if dials++; dials == 1 && err == nil {
					return &cutConn{c, cut}, nil
				}
				return c, err
			}}
			client := n.follow("/")
			require.NoError(t, client.SetTopics(t.Context(), []string{"a", "b"}))
			go func() {
				time.Sleep(time.Second)
				for i := range 20 { // while it is cut, or live
					put(t, hub, broadcast.Message{Topic: "a", Key: fmt.Sprint(i), Data: []byte("new")})
					put(t, hub, broadcast.Message{Topic: "b", Key: fmt.Sprint(i), Removed: true})
				}
				time.Sleep(time.Minute)
				say(t, hub, "a", "done")
			}()
			values := map[string]string{}
			for m, err := range client.Messages(t.Context()) {
				begin, isBegin := errors.AsType[*broadcast.BeginError](err)
				switch {
				case isBegin:
					for key := range values {
						if topic, _, _ := strings.Cut(key, "/"); begin.Topics == nil || slices.Contains(begin.Topics, topic) {
							delete(values, key)
						}
					}
				case err != nil:
					require.NoError(t, err)
				case m.Removed:
					delete(values, m.Topic+"/"+m.Key)
				case m.Key != "":
					values[m.Topic+"/"+m.Key] = string(m.Data)
				case string(m.Data) == "done":
					require.Len(t, values, 60, "cut after %d bytes", cut)
					for i := range 40 {
						want := "old"
						if i < 20 {
							want = "new"
						}
						require.Equal(t, want, values[fmt.Sprint("a/", i)])
					}
					return
				}
			}
			require.Fail(t, "the sequence ended")
		})
	}
}

// cutConn fails after a number of bytes were read.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// A client that is too slow for its beginnings is closed with 1013, after which a Client waits.
func TestSlowClientIsClosed(t *testing.T) {
	hub := &broadcast.Hub{Keep: 30}
	say(t, hub, "a", "one")
	h := beginning(hub, true)
	grant := h.Grant
	h.Grant = func(r *http.Request) (*fanfare.Grant, error) {
		g, err := grant(r)
		overruns := 0
		g.Filter = func(*broadcast.Message) bool {
			if overruns++; overruns < 20 { // while it is written to
				for range 40 {
					_, _ = hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: []byte("more")})
				}
			}
			return true
		}
		return g, err
	}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		begins := 0
		f := p.next()
		for ; f.first == fin|text; f = p.next() {
			if strings.HasPrefix(f.payload, `{"begin":`) {
				begins++
			}
		}
		require.Equal(t, frame{fin | clos, closing(ws.StatusTryAgainLater, "too slow")}, f)
		require.Equal(t, 3, begins)
		synctest.Wait()
		require.EqualValues(t, 1, h.Stats().Ended["slow"])
	})
}
