package sse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// Wherever a stream is cut, a client that reconnects as a browser does ends up with every
// message, each once and in order.
func TestNothingIsLostWhereverAStreamIsCut(t *testing.T) {
	for _, test := range []struct {
		name        string
		keep, last  int
		snapshot    bool
		lastEventID string // to begin with; "first": that of the first message
		overrun     bool   // the stream is overrun while it is open
	}{
		{name: "a fresh client"},
		{name: "with the last messages", last: 2},
		{name: "with a snapshot", snapshot: true},
		{name: "with both", snapshot: true, last: 1},
		{name: "that resumes", lastEventID: "first"},
		{name: "that resumes, where a fresh one gets more", lastEventID: "first", snapshot: true, last: 2},
		{name: "after a gap in all topics", lastEventID: "2-5"},
		{name: "after a gap in all topics, with a snapshot", lastEventID: "2-5", snapshot: true, last: 2},
		{name: "after a gap in some topics", lastEventID: "first", keep: 2},
		{name: "after a gap in some topics, with a snapshot", lastEventID: "first", keep: 2, snapshot: true},
		{name: "that is overrun", overrun: true, keep: 2},
		{name: "that is overrun, with a snapshot", overrun: true, keep: 2, snapshot: true, last: 2},
	} {
		for _, target := range []string{"/", "/?envelope=1"} {
			if target != "/" && !test.snapshot {
				continue // it takes long, and differs little
			}
			t.Run(test.name+" "+target, func(t *testing.T) {
				gaps, begins := 0, 0
				run := func(cut int) (size int) {
					synctest.Test(t, func(t *testing.T) {
						c := &cutClient{t: t, hub: &broadcast.Hub{Keep: test.keep}}
						h := &sse.Handler{Broadcaster: c.hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
							g := &fanfare.Grant{Topics: []string{"a", "b"}, Last: test.last}
							if test.snapshot {
								g.Snapshot = c.snapshot
							}
							return g, nil
						}}
						first := c.publish("a")
						c.publish("b")
						c.publish("a")
						c.publish("a")
						c.lastEventID = test.lastEventID
						if test.lastEventID == "first" {
							c.lastEventID = first
						}
						sent := record(t, h, target, c.lastEventID, func(w *recorder) {
							if test.overrun {
								unblock := w.block()
								c.publish("b")
								synctest.Wait()
								for range 6 {
									c.publish("a")
								}
								unblock()
							}
							c.publish("a")
							c.publish("c")
							c.publish("b")
						})
						size = len(sent)
						sent = sent[:min(cut, size)]
						c.takes(sent)
						c.publish("b")
						c.takes(record(t, h, target, c.lastEventID, nil))
						c.check(test.last, test.snapshot, fmt.Sprintf("cut after %q", sent))
						gaps += c.gaps
						begins += c.begins
					})
					return size
				}
				for cut := range run(math.MaxInt) {
					run(cut)
				}
				loses := test.lastEventID == "2-5" || test.keep > 0
				require.Equal(t, loses && !test.snapshot, gaps > 0)
				require.Equal(t, test.snapshot && (loses || test.lastEventID == ""), begins > 0)
			})
		}
	}
}

// cutClient is a client that is cut, with the messages that are published for it.
type cutClient struct {
	t   *testing.T
	hub *broadcast.Hub

	mu        sync.Mutex
	published []int // the numbers of the messages on its topics
	number    int

	lastEventID string
	last        string       // the ID of the last message that had one
	seen        map[int]bool // since it last began from nothing
	bare        int          // of them without ID
	gaps        int
	begins      int
}

func (c *cutClient) publish(topic string) string {
	if topic != "c" {
		c.mu.Lock()
		c.number++
		c.published = append(c.published, c.number)
		c.mu.Unlock()
	}
	return publish(c.t, c.hub, topic, strconv.Itoa(c.number))
}

// snapshot returns the state in three messages. The first of them begins it.
func (c *cutClient) snapshot(context.Context) ([]broadcast.Message, error) {
	ms := []broadcast.Message{{Topic: "a", Type: "first", Data: []byte("0")}, {Topic: "a", Type: "state"}, {Topic: "a", Type: "state"}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, number := range c.published {
		m := &ms[1+i%2]
		m.Data = append(strconv.AppendInt(m.Data, int64(number), 10), ' ')
	}
	return ms, nil
}

// takes applies what arrived before a stream was cut.
func (c *cutClient) takes(sent string) {
	if c.lastEventID == "" {
		c.seen, c.bare, c.last = map[int]bool{}, 0, "" // it knows nothing
	}
	if c.seen == nil {
		c.seen = map[int]bool{1: true} // it resumes after the first
	}
	all, lastEventID := events(c.t, sent)
	id := c.lastEventID
	for _, e := range all {
		typ, data := e.Type, string(e.Data)
		moved := e.ID != id && e.ID != ""
		id = e.ID
		if strings.HasPrefix(data, "{") { // an envelope, or a gap
			var envelope struct{ ID, Ready, Gap, Begin, Position, Topic, Type, Data string }
			require.NoError(c.t, json.Unmarshal(e.Data, &envelope))
			typ, data = envelope.Type, envelope.Data
			if envelope.Gap != "" {
				typ = "gap"
			} else if envelope.Begin != "" {
				typ = "begin"
			} else if envelope.Topic == "" {
				continue
			}
		}
		switch typ {
		case "gap":
			c.gaps++
			c.seen = map[int]bool{}
		case "begin":
			c.begins++
			c.seen = map[int]bool{}
		case "first":
			c.seen = map[int]bool{}
		case "state":
			for number := range strings.FieldsSeq(data) {
				n, err := strconv.Atoi(number)
				require.NoError(c.t, err)
				c.seen[n] = true
			}
		case "tick":
			n, err := strconv.Atoi(data)
			require.NoError(c.t, err)
			if !moved {
				c.bare++
			} else {
				require.Greater(c.t, c.order(e.ID), c.order(c.last), "a message arrived twice or out of order")
				c.last = e.ID
			}
			c.seen[n] = true
		default:
			require.Fail(c.t, "an unknown event", "%+v", e)
		}
	}
	if lastEventID != "" {
		c.lastEventID = lastEventID // a browser keeps its last event ID if no other arrived
	}
}

func (c *cutClient) order(id string) uint64 {
	parsed, err := broadcast.ParseID(id)
	require.NoError(c.t, err)
	return parsed.Seq()
}

// check requires that the client knows all numbers. Where it began late, or had a gap and no
// snapshot, it knows those from some number on.
func (c *cutClient) check(last int, snapshot bool, cut string) {
	c.t.Helper()
	var missing []int
	for _, n := range c.published {
		if !c.seen[n] {
			missing = append(missing, n)
		}
	}
	if snapshot {
		require.Empty(c.t, missing, cut)
		return
	}
	for i, n := range missing {
		require.Equal(c.t, i+1, n, "%s: %v are missing within", cut, missing)
	}
	require.True(c.t, c.seen[c.number] || last == 0 && c.gaps == 0 && c.last == "", cut)
}
