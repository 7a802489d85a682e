package ws_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// ask is the frame of a client that asks for other topics.
func ask(topics string) string { return masked(fin|text, `{"topics":[`+topics+`]}`) }

// snapshot returns the Snapshot of a Grant with one message.
func snapshot(topic string) func(context.Context) ([]broadcast.Message, error) {
	return func(context.Context) ([]broadcast.Message, error) {
		return []broadcast.Message{{Topic: topic, Data: []byte("state of " + topic)}}, nil
	}
}

// A client that asks for other topics gets them from the position in the answer on.
// What Change refuses changes nothing.
func TestChange(t *testing.T) {
	hub := &broadcast.Hub{}
	log := &logbook{}
	var changes [][]string
	change := func(topics []string) (*fanfare.Grant, error) {
		changes = append(changes, topics)
		switch {
		case slices.Contains(topics, "secret"):
			return nil, &fanfare.Refusal{Status: 403, Err: errors.New("not for you")}
		case slices.Contains(topics, "panic"):
			panic("in Change")
		case slices.Contains(topics, "nothing"):
			return nil, nil
		}
		return &fanfare.Grant{Topics: topics, Filter: func(m *broadcast.Message) bool { return string(m.Data) != "left out" }}, nil
	}
	h := &ws.Handler{Broadcaster: hub, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Change: change}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		begin := position(t, hub)
		p := n.raw("/", "")
		p.receives(ready(begin))
		say(t, hub, "b", "published before the client asks for b")
		one := say(t, hub, "a", "one")
		p.receives(message(one, "a", "one"))
		p.write(ask(`"b", "c"`))
		p.receives(`{"topics":["b","c"],"position":"` + one + `"}`)
		say(t, hub, "a", "no longer")
		two, three := say(t, hub, "b", "two"), say(t, hub, "c", "three")
		p.receives(message(two, "b", "two"), message(three, "c", "three"))
		say(t, hub, "b", "left out")
		synctest.Wait()

		// What is refused changes nothing.
		here := position(t, hub)
		for topics, status := range map[string]string{`"secret"`: "403", `"panic"`: "500", `"nothing"`: "500", ``: "400", `"a\nb"`: "400"} {
			p.write(ask(topics))
			p.receives(`{"position":"` + here + `","status":` + status + `}`)
		}
		four := say(t, hub, "c", "four")
		p.receives(message(four, "c", "four"))
		require.Len(t, changes, 6)
		require.Equal(t, 3, log.events("refused other topics")-2, "two of them are faults")
		require.NotContains(t, log.text.String(), "token")

		// The client resumes with the newest ID that it has read.
		p.Close()
		synctest.Wait()
		require.Zero(t, hub.Stats().Subscriptions)
		five := say(t, hub, "a", "five")
		p = n.raw("/?lastEventId="+four, "")
		p.receives(ready(four), message(five, "a", "five"))
		p.Close()
	})
}

// A client that asks for other topics while messages arrive gets exactly the messages
// between the positions of the answers.
func TestChangeLosesNothing(t *testing.T) {
	hub := &broadcast.Hub{Keep: 4096}
	change := func(topics []string) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: topics}, nil }
	h := &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Change: change}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		c := n.dial("/", ws.Options{})
		c.ReadAhead(-1)
		const rounds = 100
		published := make(map[string][]uint64) // sequences by topic
		publishing := true
		publish := func(topic string) broadcast.ID {
			id, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Data: []byte("x")})
			require.NoError(t, err)
			published[topic] = append(published[topic], id.Seq())
			return id
		}
		stop := make(chan struct{})
		var publisher sync.WaitGroup
		publisher.Go(func() {
			for i := 0; ; i++ {
				publish([]string{"a", "b"}[i%2])
				select {
				case <-time.After(time.Millisecond):
				case <-stop:
					return
				}
			}
		})
		type part struct {
			topics []string
			from   uint64
			got    []uint64
		}
		parts := []part{{topics: []string{"a"}}}
		sets := [][]string{{"b"}, {"a", "b"}, {"a"}}
		var end broadcast.ID
		for asked := 0; ; {
			if asked < rounds && asked < len(parts) {
				require.NoError(t, c.WriteJSON(t.Context(), map[string]any{"topics": sets[asked%3]}))
				asked++
			}
			if len(parts) == rounds+1 && publishing {
				publishing = false
				close(stop)
				publisher.Wait()
				end = publish(parts[rounds].topics[0])
			}
			var m struct {
				ID, Position broadcast.ID
				Topics       []string
			}
			require.NoError(t, c.ReadJSON(t.Context(), &m))
			last := &parts[len(parts)-1]
			switch {
			case m.Topics != nil:
				parts = append(parts, part{topics: m.Topics, from: m.Position.Seq()})
			case !m.ID.IsZero():
				last.got = append(last.got, m.ID.Seq())
			}
			if m.ID == end && !publishing {
				break
			}
		}
		require.Len(t, parts, rounds+1)
		for i, part := range parts {
			to := end.Seq()
			if i+1 < len(parts) {
				to = parts[i+1].from
			}
			var want []uint64
			for _, topic := range part.topics {
				for _, seq := range published[topic] {
					if seq > part.from && seq <= to {
						want = append(want, seq)
					}
				}
			}
			slices.Sort(want)
			require.Equal(t, want, part.got, "part %d, %v from %d to %d", i, part.topics, part.from, to)
		}
	})
}

// Messages that only look like a request for other topics are for Receive.
func TestReceiveGetsWhatDoesNotAskForTopics(t *testing.T) {
	hub := &broadcast.Hub{}
	received := make(chan string, 10)
	var grant *fanfare.Grant
	h := &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) { return grant, nil },
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, data []byte) error { received <- string(data); return nil }
		}}
	serve(t, h, func(t *testing.T, n *network) {
		grant = &fanfare.Grant{Topics: []string{"a"}, Change: func(topics []string) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: topics}, nil }}
		c := n.dial("/", ws.Options{})
		for _, own := range []string{`{"topics":["b"],"x":1}`, `{"topics":null}`, `{"topics":"b"}`, `{"topics":[1]}`, `{"topics":["b"]} {}`, `"topics"`, `{`} {
			require.NoError(t, c.Write(t.Context(), ws.Text, []byte(own)))
			require.Equal(t, own, <-received)
		}
		require.NoError(t, c.Write(t.Context(), ws.Binary, []byte(`{"topics":["b"]}`)))
		require.Equal(t, `{"topics":["b"]}`, <-received, "a binary message never asks for topics")
		require.NoError(t, c.Write(t.Context(), ws.Text, []byte(" {\n\"topics\" : [\"b\"] } ")))
		for {
			_, data, err := c.Read(t.Context())
			require.NoError(t, err)
			if strings.Contains(string(data), `"topics":["b"]`) {
				break
			}
		}
		require.NoError(t, c.CloseNow())
	})
}

// The Snapshot of the new Grant comes before the answer.
func TestChangeSendsTheStateOfNewTopics(t *testing.T) {
	hub := &broadcast.Hub{}
	grant := &fanfare.Grant{Topics: []string{"a"}}
	grant.Change = func(topics []string) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: topics, Snapshot: snapshot(topics[0])}, nil
	}
	h := &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) { return grant, nil }}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		here := position(t, hub)
		p.receives(ready(here))
		p.write(ask(`"b"`))
		p.receives(`{"begin":"1-0"}`, `{"topic":"b","data":"state of b"}`, `{"topics":["b"],"position":"`+here+`"}`)
		p.write(ask(`"` + strings.Repeat("x", 256) + `"`))
		p.receives(`{"position":"` + here + `","status":400}`)
		p.Close()
	})
}

// A request for other topics without a Change is answered with a refusal. The connection
// stays open, and Receive does not get the request.
func TestTopicsWithoutChangeAreRefused(t *testing.T) {
	received := make(chan string, 10)
	receive := func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
		return func(_ ws.MessageType, data []byte) error { received <- string(data); return nil }
	}
	grant := func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: []string{"a"}}, nil }
	for name, h := range map[string]*ws.Handler{
		"Topics":              {Topics: []string{"a"}},
		"Topics and Receive":  {Topics: []string{"a"}, Receive: receive},
		"a Grant":             {Grant: grant},
		"a Grant and Receive": {Grant: grant, Receive: receive, Options: ws.Options{MessageRate: 10}},
	} {
		for _, detach := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detached %v", name, detach), func(t *testing.T) {
				hub := &broadcast.Hub{}
				serve(t, &ws.Handler{Broadcaster: hub, Logger: silent, Topics: h.Topics, Grant: h.Grant, Receive: h.Receive, Options: h.Options, Detach: detach}, func(t *testing.T, n *network) {
					p := n.raw("/", "")
					here := position(t, hub)
					p.receives(ready(here))
					for range 3 {
						p.write(ask(`"b"`))
						p.receives(`{"position":"` + here + `","status":403}`)
					}
					p.write(ask(strings.Repeat(`"x",`, 1000) + `"x"`))
					p.receives(`{"position":"` + here + `","status":403}`)
					p.receives(message(say(t, hub, "a", "one"), "a", "one"))
					p.Close()
					synctest.Wait()
					require.Empty(t, received)
				})
			})
		}
	}
}

// A Handler with a protocol of its own could not answer: there a message with topics is
// one of that protocol.
func TestTopicsOfAnotherProtocolAreForReceive(t *testing.T) {
	got := ""
	h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Encode: ws.Raw, Logger: silent,
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, data []byte) error { got = string(data); return nil }
		}}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.write(ask(`"b"`))
		synctest.Wait()
		require.Equal(t, `{"topics":["b"]}`, got)
		p.Close()
	})
}

// A client that is in no topic yet gets some on its open WebSocket.
func TestWebSocketWithoutTopics(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, changing(hub, true, func(*http.Request) []string { return nil }), func(t *testing.T, n *network) {
		p := n.raw("/?heartbeat=1", "")
		here := position(t, hub)
		p.receives(ready(here))
		moved := say(t, hub, "a", "not for it")
		// The position and the ping are due in the same moment.
		require.ElementsMatch(t, []frame{{fin | text, `{"position":"` + moved + `"}`}, {fin | ping, ""}}, []frame{p.next(), p.next()})
		p.write(masked(fin|pong, ""))
		p.write(ask(`"a"`))
		p.receives(`{"topics":["a"],"position":"` + moved + `"}`)
		p.receives(message(say(t, hub, "a", "one"), "a", "one"))
		hub.Close()
		p.closes(ws.StatusServiceRestart)
	})
}
