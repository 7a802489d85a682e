package ws_test

import (
	"context"
	"errors"
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
		p.receives(`{"ready":"` + begin + `"}`)
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
			p.receives(`{"topics":["b","c"],"position":"` + here + `","status":` + status + `}`)
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
		p.receives(`{"ready":"`+four+`"}`, message(five, "a", "five"))
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
	grant := &fanfare.Grant{Topics: []string{"a"}}
	h := &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) { return grant, nil },
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, data []byte) error { received <- string(data); return nil }
		}}
	serve(t, h, func(t *testing.T, n *network) {
		own := `{"topics":["b"]}`
		c := n.dial("/", ws.Options{})
		require.NoError(t, c.Write(t.Context(), ws.Text, []byte(own)))
		require.Equal(t, own, <-received, "without a Change it is a message like any other")
		require.NoError(t, c.CloseNow())

		grant = &fanfare.Grant{Topics: []string{"a"}, Change: func(topics []string) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: topics}, nil }}
		c = n.dial("/", ws.Options{})
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
		p.receives(`{"ready":"` + here + `"}`)
		p.write(ask(`"b"`))
		p.receives(`{"topic":"b","data":"state of b"}`, `{"topics":["b"],"position":"`+here+`"}`)
		p.write(ask(`"` + strings.Repeat("x", 256) + `"`))
		p.receives(`{"topics":["b"],"position":"` + here + `","status":400}`)
		p.Close()
	})
}
