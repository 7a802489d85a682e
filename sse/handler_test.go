package sse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/sse"
)

// TestWire wants exact bytes. Its Broadcaster has no random epoch.
func TestWire(t *testing.T) {
	id := func(seq uint64) broadcast.ID { return broadcast.MakeID(0x1f, seq) }
	message := func(seq uint64, typ, data string) broadcast.Message {
		return broadcast.Message{ID: id(seq), Topic: "prices", Type: typ, Data: []byte(data)}
	}
	says := func(ms ...broadcast.Message) []look { return []look{{messages: ms}} }
	gap := func(topics []string, ms ...broadcast.Message) []look {
		return []look{{messages: ms, err: &broadcast.GapError{ID: id(0x2a), Topics: topics}, position: id(0x2b)}}
	}
	const begin = "retry: 3000\nid: 1f-29\n\n"
	const beginEnvelope = "retry: 3000\nid: 1f-29\ndata: {\"ready\":\"1f-29\"}\n\n"
	for _, test := range []struct {
		name, why string
		target    string
		options   sse.Options
		encode    func(*broadcast.Message) (sse.Event, bool)
		nowhere   bool // the Broadcaster has no positions
		looks     []look
		idle      time.Duration
		want      string
	}{
		{name: "the beginning", why: "a client that is cut now comes back to where it began",
			want: begin},
		{name: "a message", why: "the type, then where to resume, then the data",
			looks: says(message(0x2a, "tick", `{"usd":42}`)),
			want:  begin + "event: tick\nid: 1f-2a\ndata: {\"usd\":42}\n\n"},
		{name: "no type", why: "a browser's message event",
			looks: says(message(0x2a, "", "x")),
			want:  begin + "id: 1f-2a\ndata: x\n\n"},
		{name: "data of several lines", why: "each way to end a line ends one",
			looks: says(message(0x2a, "", "a\nb\r\nc\rd\n")),
			want:  begin + "id: 1f-2a\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
		{name: "empty data", why: "a block without data fires nothing in a browser",
			looks: says(message(0x2a, "", ""), broadcast.Message{ID: id(0x2b), Topic: "prices", Type: "tick"}),
			want:  begin + "id: 1f-2a\ndata: \n\nevent: tick\nid: 1f-2b\ndata: \n\n"},
		{name: "binary", why: "bytes of any kind do not go through a text protocol as they are",
			looks: says(broadcast.Message{ID: id(0x2a), Topic: "prices", Type: "tick", Data: []byte{0xff, 0, '\n'}, Binary: true}),
			want:  begin + "event: tick;base64\nid: 1f-2a\ndata: /wAK\n\n"},
		{name: "binary without a type", why: "the type has to say that it is base64",
			looks: says(broadcast.Message{ID: id(0x2a), Topic: "prices", Data: []byte{0xff}, Binary: true}, broadcast.Message{ID: id(0x2b), Topic: "prices", Binary: true}),
			want:  begin + "event: message;base64\nid: 1f-2a\ndata: /w==\n\nevent: message;base64\nid: 1f-2b\ndata: \n\n"},

		{name: "a gap at the beginning", why: "it comes before everything, in a block with an id and with data",
			looks: gap([]string{"prices", `"b"`}, message(0x2b, "tick", "x")),
			want: "retry: 3000\nevent: gap\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\",\"topics\":[\"prices\",\"\\\"b\\\"\"]}\n\n" +
				"event: tick\nid: 1f-2b\ndata: x\n\n"},
		{name: "a gap in all topics", why: "then they are not listed",
			looks: gap(nil),
			want:  "retry: 3000\nevent: gap\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\"}\n\n"},
		{name: "a gap later on", why: "it comes before the message that follows the loss",
			looks: append(says(message(0x2a, "", "1")), gap([]string{"prices"}, message(0x2b, "", "2"))...),
			want:  begin + "id: 1f-2a\ndata: 1\n\nevent: gap\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\",\"topics\":[\"prices\"]}\n\nid: 1f-2b\ndata: 2\n\n"},

		{name: "a heartbeat", why: "no blank line follows it: some clients fire on each",
			idle: 16 * time.Second, want: begin + ":\n"},
		{name: "a position", why: "it moved without a message for this client",
			looks: []look{{}, {position: id(0x31)}}, idle: 16 * time.Second, want: begin + "id: 1f-31\n\n"},
		{name: "no position", why: "an empty id would clear the client's",
			nowhere: true, idle: 16 * time.Second, want: "retry: 3000\n\n:\n"},
		{name: "a gap without a position", why: "an empty id would clear the client's",
			looks: []look{{err: &broadcast.GapError{}}}, want: "retry: 3000\nevent: gap\ndata: {\"gap\":\"\"}\n\n"},

		{name: "another time to reconnect after", why: "it is the handler's to choose",
			options: sse.Options{Retry: 1500 * time.Millisecond}, want: "retry: 1500\nid: 1f-29\n\n"},
		{name: "a very short one", why: "0 would let clients reconnect without a pause",
			options: sse.Options{Retry: 1}, want: "retry: 1\nid: 1f-29\n\n"},
		{name: "none", why: "the client's own default stands",
			options: sse.Options{Retry: -1}, want: "id: 1f-29\n\n"},
		{name: "padding", why: "old polyfills wait for 2 KB",
			target: "?padding=true", want: ":" + strings.Repeat(" ", 2048) + "\n" + begin},
		{name: "padding of another kind", why: "nobody asked for it",
			target: "?padding=1", want: begin},

		{name: "the beginning in an envelope", why: "a script sees data, not positions",
			target: "?envelope=1", want: beginEnvelope},
		{name: "a message in an envelope", why: "it has no type, so that one listener gets all",
			target: "?envelope=1", looks: says(message(0x2a, "tick", "a\n<b>&")),
			want: beginEnvelope + "id: 1f-2a\ndata: {\"id\":\"1f-2a\",\"topic\":\"prices\",\"type\":\"tick\",\"data\":\"a\\n<b>&\"}\n\n"},
		{name: "binary in an envelope", why: "the envelope has a way to say so",
			target: "?envelope=1", looks: says(broadcast.Message{ID: id(0x2a), Topic: "prices", Type: "tick", Data: []byte{0xff}, Binary: true}),
			want: beginEnvelope + "id: 1f-2a\ndata: {\"id\":\"1f-2a\",\"topic\":\"prices\",\"type\":\"tick\",\"data\":\"/w==\",\"encoding\":\"base64\"}\n\n"},
		{name: "a gap in an envelope", why: "as on a WebSocket",
			target: "?envelope=1", looks: gap([]string{"prices"}),
			want: "retry: 3000\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\",\"topics\":[\"prices\"]}\n\n"},
		{name: "a position in an envelope", why: "as on a WebSocket",
			target: "?envelope=1", looks: []look{{}, {position: id(0x31)}}, idle: 16 * time.Second,
			want: beginEnvelope + "id: 1f-31\ndata: {\"position\":\"1f-31\"}\n\n"},
		{name: "no position in an envelope", why: "an empty id would clear the client's",
			target: "?envelope=1", nowhere: true, want: "retry: 3000\ndata: {\"ready\":\"\"}\n\n"},
		{name: "an envelope behind padding", why: "they do not know of each other",
			target: "?envelope=1&padding=true", want: ":" + strings.Repeat(" ", 2048) + "\n" + beginEnvelope},

		{name: "Encode", why: "the ID and the time to reconnect are the handler's",
			encode: func(m *broadcast.Message) (sse.Event, bool) {
				return sse.Event{ID: "forged", Type: m.Topic, Retry: time.Hour, Data: append([]byte("> "), m.Data...)}, string(m.Data) != "no"
			},
			looks: says(message(0x2a, "tick", "no"), message(0x2b, "tick", "x")),
			want:  begin + "event: prices\nid: 1f-2b\ndata: > x\n\n"},
		{name: "Encode without data", why: "what Encode wants sent is to fire",
			encode: func(m *broadcast.Message) (sse.Event, bool) { return sse.Event{}, true },
			looks:  says(message(0x2a, "tick", "x")),
			want:   begin + "id: 1f-2a\ndata: \n\n"},
		{name: "Encode of binary", why: "Encode has made text of it",
			encode: func(m *broadcast.Message) (sse.Event, bool) {
				return sse.Event{Data: fmt.Appendf(nil, "%x", m.Data)}, true
			},
			looks: says(broadcast.Message{ID: id(0x2a), Topic: "prices", Data: []byte{0xff}, Binary: true}),
			want:  begin + "id: 1f-2a\ndata: ff\n\n"},
		{name: "Encode in an envelope", why: "it makes the data, not the envelope", target: "?envelope=1",
			encode: func(m *broadcast.Message) (sse.Event, bool) {
				return sse.Event{ID: "forged", Type: "shout", Data: []byte("X")}, true
			},
			looks: says(message(0x2a, "tick", "x")),
			want:  beginEnvelope + "id: 1f-2a\ndata: {\"id\":\"1f-2a\",\"topic\":\"prices\",\"type\":\"shout\",\"data\":\"X\"}\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &scripted{begin: id(0x29), looks: test.looks}
			if test.nowhere {
				b.begin = broadcast.ID{}
			}
			h := &sse.Handler{Broadcaster: b, Topics: []string{"prices"}, Options: test.options, Encode: test.encode}
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/" + test.target)
				time.Sleep(test.idle)
				require.Equal(t, test.want, s.now(), test.why)
				s.cancel()
				synctest.Wait()
			})
		})
	}
}

func TestHeader(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
	wrapped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Cache-Control", "public")
		w.Header().Set("Set-Cookie", "a=b")
		h.ServeHTTP(w, r)
	})
	serve(t, wrapped, func(t *testing.T, n *network) {
		for _, method := range []string{"GET", "HEAD"} {
			s := n.do(method, "/", nil)
			require.Equal(t, 200, s.StatusCode, method)
			assert.Equal(t, []string{"text/event-stream"}, s.Header.Values("Content-Type"), method)
			assert.Equal(t, []string{"no-store, no-transform"}, s.Header.Values("Cache-Control"), method)
			assert.Equal(t, []string{"no"}, s.Header.Values("X-Accel-Buffering"), method)
			assert.Equal(t, "a=b", s.Header.Get("Set-Cookie"), "what others have set stays")
			if method == "HEAD" {
				s.ends()
				require.Zero(t, hub.Stats().Subscriptions, "a HEAD leaves nothing open")
				continue
			}
			s.begins()
			require.EqualValues(t, -1, s.ContentLength)
			s.cancel()
			synctest.Wait()
		}
	})
}

func TestMethodsAndAccept(t *testing.T) {
	var hub broadcast.Hub
	var granted atomic.Int32
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		granted.Add(1)
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}}
	for _, test := range []struct {
		name, why, method string
		accept            []string
		status            int
	}{
		{"POST", "a stream is read, not written", "POST", nil, 405},
		{"PUT", "a stream is read, not written", "PUT", nil, 405},
		{"OPTIONS", "CORS is a middleware's", "OPTIONS", nil, 405},
		{"a wrong method and a wrong type", "the method comes first", "DELETE", []string{"text/html"}, 405},
		{"no Accept", "the client takes anything", "GET", nil, 200},
		{"HEAD", "as GET, without the stream", "HEAD", nil, 200},
		{"what an EventSource sends", "it is the type itself", "GET", []string{"text/event-stream"}, 200},
		{"with parameters", "they do not matter", "GET", []string{"text/event-stream; charset=utf-8"}, 200},
		{"in capitals", "types have no case", "GET", []string{"TEXT/Event-Stream;Q=0.5"}, 200},
		{"any text", "it is text", "GET", []string{"text/*"}, 200},
		{"anything", "it is something", "GET", []string{"*/*"}, 200},
		{"a browser's navigation", "it ends with anything", "GET", []string{"text/html,application/xhtml+xml,*/*;q=0.8"}, 200},
		{"in a second line", "lines are one list", "GET", []string{"text/html", "text/event-stream"}, 200},
		{"another type", "the client could not read it", "GET", []string{"application/json"}, 406},
		{"excluded", "q=0 says not", "GET", []string{"text/event-stream;q=0"}, 406},
		{"excluded in other digits", "q=0.000 says not", "GET", []string{"text/event-stream;q=0.000"}, 406},
		{"excluded from anything", "the most specific range counts", "GET", []string{"*/*, text/event-stream;q=0"}, 406},
		{"excluded as text", "the most specific range counts", "GET", []string{"text/*;q=0, */*"}, 406},
		{"text excluded, but not this", "the most specific range counts", "GET", []string{"text/*;q=0, text/event-stream;q=0.1"}, 200},
		{"nothing wanted", "q=0 says not", "GET", []string{"*/*;q=0"}, 406},
		{"beside what is no type", "the rest stands", "GET", []string{"???, text/event-stream"}, 200},
		{"HEAD of another type", "as GET", "HEAD", []string{"text/html"}, 406},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			granted.Store(0)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				r := httptest.NewRequestWithContext(ctx, test.method, "/", nil)
				r.Header["Accept"] = test.accept
				h.ServeHTTP(w, r)
			})
			assert.Equal(t, test.status, w.Code, test.why)
			allow := ""
			if test.status == 405 {
				allow = "GET, HEAD"
			}
			assert.Equal(t, allow, w.Header().Get("Allow"))
			assert.Equal(t, test.status == 200, granted.Load() == 1, "nobody is asked for what cannot be")
		})
	}
}

// TestResume resumes behind each ID that there has been, and from where nobody
// has ever been.
func TestResume(t *testing.T) {
	hub := &broadcast.Hub{Keep: 8}
	serve(t, &sse.Handler{Broadcaster: hub, Topics: []string{"a", "b"}}, func(t *testing.T, n *network) {
		var ids, blocks []string
		for i := range 20 {
			topic := []string{"a", "b", "c"}[i%3]
			id := publish(t, hub, topic, strconv.Itoa(i))
			ids = append(ids, id)
			if topic != "c" {
				blocks = append(blocks, tick(id, strconv.Itoa(i)))
			} else {
				blocks = append(blocks, "")
			}
		}
		resumed := func(target string, header ...string) string {
			s := n.get("/"+target, header...)
			defer synctest.Wait()
			defer s.cancel()
			return s.now()
		}
		for i, id := range ids {
			want := "retry: 3000\nid: " + id + "\n\n" + strings.Join(blocks[i+1:], "")
			require.Equal(t, want, resumed("", "Last-Event-ID", id), "behind message %d", i)
		}

		want := "retry: 3000\nid: " + ids[18] + "\n\n" + blocks[19]
		for _, name := range []string{"lastEventId", "last_event_id", "lastEventID"} {
			assert.Equal(t, want, resumed("?"+name+"="+ids[18]), name)
			assert.Equal(t, want, resumed("?"+name+"="+ids[3], "Last-Event-ID", ids[18]),
				"an EventSource repeats its first URL: the header is newer")
			assert.Equal(t, want, resumed("?"+name+"="+ids[18], "Last-Event-ID", ""), "an empty header says nothing")
		}
		assert.Equal(t, want, resumed("?last_event_id="+ids[18]+"&lastEventID="+ids[3]+"&lastEventId="), "the first that says something")
		assert.Equal(t, want, resumed("?lastEventId="+ids[18]+"&last_event_id="+ids[3]), "the first that says something")
		assert.Equal(t, "retry: 3000\nid: "+ids[19]+"\n\n", resumed("?lasteventid="+ids[3]), "a name that nobody uses")
	})
}

func TestResumeFromWhereNobodyCanTell(t *testing.T) {
	hub := &broadcast.Hub{Keep: 2}
	serve(t, &sse.Handler{Broadcaster: hub, Topics: []string{"a", "b"}}, func(t *testing.T, n *network) {
		var a []string
		for i := range 4 {
			a = append(a, publish(t, hub, "a", strconv.Itoa(i)))
		}
		b := publish(t, hub, "b", "b")
		kept := tick(a[2], "2") + tick(a[3], "3") + tick(b, "b")
		told := func(id, topics string) string {
			return "retry: 3000\nevent: gap\nid: " + id + "\ndata: {\"gap\":\"" + id + "\"" + topics + "}\n\n"
		}
		head, err := broadcast.ParseID(b)
		require.NoError(t, err)
		for _, test := range []struct{ name, why, lastEventID, want string }{
			{"no ID", "whatever it was, it cannot be placed", "nonsense", told(before(t, a[2]), "") + kept},
			{"almost an ID", "only what was sent is an ID", strings.ToUpper(a[0]) + "0g", told(before(t, a[2]), "") + kept},
			{"another epoch", "the process has been restarted", "2-5", told(before(t, a[2]), "") + kept},
			{"the epoch that nobody has", "a stream says so if it wants to be asked again", "1-0", told(before(t, a[2]), "") + kept},
			{"the future", "there is nothing to repeat", broadcast.MakeID(head.Epoch(), head.Seq()+1).String(), told(b, "")},
			{"older than what is kept", "only one topic has lost something", a[0], told(before(t, a[2]), `,"topics":["a"]`) + kept},
			{"as old as what is kept", "nothing is lost", a[1], "retry: 3000\nid: " + a[1] + "\n\n" + kept},
		} {
			for _, s := range []*stream{n.get("/", "Last-Event-ID", test.lastEventID), n.get("/?lastEventId=" + test.lastEventID)} {
				require.Equal(t, test.want, s.now(), "%s: %s", test.name, test.why)
				s.cancel()
			}
		}
		s := n.get("/", "Last-Event-ID", "nonsense")
		s.says(told(before(t, a[2]), "") + kept)
		next := publish(t, hub, "b", "live")
		s.says(tick(next, "live"))
		s.cancel()
		synctest.Wait()
	})
}

// TestCutAnywhere records streams, cuts them behind each of their bytes, lets the
// client come back as a browser does, and wants it to have everything then, each
// message once.
func TestCutAnywhere(t *testing.T) {
	for _, test := range []struct {
		name        string
		keep, last  int
		snapshot    bool
		lastEventID string // to begin with; "first": that of the first message
		overrun     bool   // the stream is overrun while it stands
	}{
		{name: "a fresh client"},
		{name: "with the last messages", last: 2},
		{name: "with a snapshot", snapshot: true},
		{name: "with both", snapshot: true, last: 1},
		{name: "that resumes", lastEventID: "first"},
		{name: "that resumes, where a fresh one gets more", lastEventID: "first", snapshot: true, last: 2},
		{name: "after a gap in everything", lastEventID: "2-5"},
		{name: "after a gap in everything, with a snapshot", lastEventID: "2-5", snapshot: true, last: 2},
		{name: "after a gap in some topics", lastEventID: "first", keep: 2},
		{name: "after a gap in some topics, with a snapshot", lastEventID: "first", keep: 2, snapshot: true},
		{name: "that is overrun", overrun: true, keep: 2},
		{name: "that is overrun, with a snapshot", overrun: true, keep: 2, snapshot: true, last: 2},
	} {
		for _, target := range []string{"/", "/?envelope=1"} {
			if target != "/" && !test.snapshot {
				continue // it takes long, and there is little to see
			}
			t.Run(test.name+" "+target, func(t *testing.T) {
				gaps := 0
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
								letGo := w.stuck()
								c.publish("b")
								synctest.Wait()
								for range 6 {
									c.publish("a")
								}
								letGo()
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
						c.check(test.last, test.snapshot, fmt.Sprintf("cut behind %q", sent))
						gaps += c.gaps
					})
					return size
				}
				for cut := range run(math.MaxInt) {
					run(cut)
				}
				require.Equal(t, test.lastEventID == "2-5" || test.keep > 0, gaps > 0)
			})
		}
	}
}

// cutClient is the client of TestCutAnywhere, and what there is for it.
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

// snapshot is the state in three messages, the first of which begins it.
func (c *cutClient) snapshot(context.Context) ([]broadcast.Message, error) {
	ms := []broadcast.Message{{Topic: "a", Type: "begin", Data: []byte("0")}, {Topic: "a", Type: "state"}, {Topic: "a", Type: "state"}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, number := range c.published {
		m := &ms[1+i%2]
		m.Data = append(strconv.AppendInt(m.Data, int64(number), 10), ' ')
	}
	return ms, nil
}

// takes takes what came before a stream was cut.
func (c *cutClient) takes(sent string) {
	if c.lastEventID == "" {
		c.seen, c.bare, c.last = map[int]bool{}, 0, "" // it knows nothing
	}
	if c.seen == nil {
		c.seen = map[int]bool{1: true} // it resumes behind the first
	}
	all, lastEventID := events(c.t, sent)
	id := c.lastEventID
	for _, e := range all {
		typ, data := e.Type, string(e.Data)
		moved := e.ID != id && e.ID != ""
		id = e.ID
		if strings.HasPrefix(data, "{") { // an envelope, or a gap
			var envelope struct{ ID, Ready, Gap, Position, Topic, Type, Data string }
			require.NoError(c.t, json.Unmarshal(e.Data, &envelope))
			typ, data = envelope.Type, envelope.Data
			if envelope.Gap != "" {
				typ = "gap"
			} else if envelope.Topic == "" {
				continue
			}
		}
		switch typ {
		case "gap":
			c.gaps++
			c.seen = map[int]bool{}
		case "begin":
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
				require.Greater(c.t, c.order(e.ID), c.order(c.last), "a message comes twice or out of order")
				c.last = e.ID
			}
			c.seen[n] = true
		default:
			require.Fail(c.t, "an event that nobody sends", "%+v", e)
		}
	}
	if lastEventID != "" {
		c.lastEventID = lastEventID // what a browser keeps, if nothing new came too
	}
}

func (c *cutClient) order(id string) uint64 {
	parsed, err := broadcast.ParseID(id)
	require.NoError(c.t, err)
	return parsed.Seq()
}

// check wants the client to know all numbers, or at least an unbroken run up to
// the last where it cannot: it began late, or there was a gap and no snapshot.
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

// TestGrantBegins wants what a Grant's stream begins with, in this order.
func TestGrantBegins(t *testing.T) {
	snapshot := func(context.Context) ([]broadcast.Message, error) {
		return []broadcast.Message{
			{Topic: "a", Type: "state", Data: []byte("1")},
			{Topic: "x", Data: []byte{0xff}, Binary: true, ID: broadcast.MakeID(7, 7)},
		}, nil
	}
	const state = "event: state\ndata: 1\n\nevent: message;base64\ndata: /w==\n\n"
	for _, test := range []struct {
		name, why   string
		grant       fanfare.Grant
		lastEventID string // "first", "gap" or none
		target      string
		want        string // with IDs as 1, 2, 3, and 0 before the first kept
	}{
		{"nothing", "from now on", fanfare.Grant{}, "", "/", "id: 3\n\n"},
		{"Last", "without ids before the position: a cut among them gets them again", fanfare.Grant{Last: 2}, "", "/",
			"event: tick\ndata: one\n\nevent: tick\ndata: two\n\nevent: tick\ndata: three\n\nid: 3\n\n"},
		{"Last of a client that resumes", "it gets what it missed, not what it has", fanfare.Grant{Last: 2}, "first", "/",
			"id: 1\n\nevent: tick\nid: 2\ndata: two\n\nevent: tick\nid: 3\ndata: three\n\n"},
		{"Snapshot", "without ids before the position, whatever ids it has", fanfare.Grant{Snapshot: snapshot}, "", "/",
			state + "id: 3\n\n"},
		{"Snapshot of a client that resumes", "it has the state already", fanfare.Grant{Snapshot: snapshot}, "first", "/",
			"id: 1\n\nevent: tick\nid: 2\ndata: two\n\nevent: tick\nid: 3\ndata: three\n\n"},
		{"Snapshot after a gap", "the state is unknown; a cut in the middle is a gap again", fanfare.Grant{Snapshot: snapshot}, "gap", "/",
			"event: gap\nid: 1-0\ndata: {\"gap\":\"1-0\"}\n\n" + state + "id: 0\n\n" +
				"event: tick\nid: 1\ndata: one\n\nevent: tick\nid: 2\ndata: two\n\nevent: tick\nid: 3\ndata: three\n\n"},
		{"both", "the state is older than the messages", fanfare.Grant{Snapshot: snapshot, Last: 1}, "", "/",
			state + "event: tick\ndata: two\n\nevent: tick\ndata: three\n\nid: 3\n\n"},
		{"in an envelope", "the messages have no id there either", fanfare.Grant{Snapshot: snapshot, Last: 1}, "", "/?envelope=1",
			"data: {\"topic\":\"a\",\"type\":\"state\",\"data\":\"1\"}\n\ndata: {\"topic\":\"x\",\"data\":\"/w==\",\"encoding\":\"base64\"}\n\n" +
				"data: {\"topic\":\"b\",\"type\":\"tick\",\"data\":\"two\"}\n\ndata: {\"topic\":\"a\",\"type\":\"tick\",\"data\":\"three\"}\n\n" +
				"id: 3\ndata: {\"ready\":\"3\"}\n\n"},
		{"Filter", "it sees the Last messages too, not the state",
			fanfare.Grant{Snapshot: snapshot, Last: 9, Filter: func(m *broadcast.Message) bool { return string(m.Data) == "two" }}, "", "/",
			state + "event: tick\ndata: two\n\nid: 3\n\n"},
		{"a Snapshot of nothing", "there may be no state yet",
			fanfare.Grant{Snapshot: func(context.Context) ([]broadcast.Message, error) { return nil, nil }}, "", "/", "id: 3\n\n"},
		{"a topic twice", "it is one topic", fanfare.Grant{Topics: []string{"a", "a"}}, "first", "/",
			"id: 1\n\nevent: tick\nid: 3\ndata: three\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				if test.grant.Topics == nil {
					test.grant.Topics = []string{"a", "b"}
				}
				h := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) { return &test.grant, nil }}
				ids := []string{"", publish(t, &hub, "a", "one"), publish(t, &hub, "b", "two"), publish(t, &hub, "a", "three")}
				ids[0] = before(t, ids[1])
				want := test.want
				for i, id := range ids {
					want = strings.ReplaceAll(want, fmt.Sprintf("id: %d\n", i), "id: "+id+"\n")
					want = strings.ReplaceAll(want, fmt.Sprintf(`{"ready":"%d"}`, i), `{"ready":"`+id+`"}`)
				}
				lastEventID := map[string]string{"first": ids[1], "gap": "2-5"}[test.lastEventID]
				require.Equal(t, "retry: 3000\n"+want, record(t, h, test.target, lastEventID, nil), test.why)
			})
		})
	}
}

// TestManyLastMessages has more of them than one look can hold, with others that
// come while they are sent.
func TestManyLastMessages(t *testing.T) {
	hub := &broadcast.Hub{Keep: 1000}
	synctest.Test(t, func(t *testing.T) {
		var want strings.Builder
		want.WriteString("retry: 3000\n")
		var last string
		for i := range 1000 {
			last = publish(t, hub, "a", strconv.Itoa(i))
			fmt.Fprintf(&want, "event: tick\ndata: %d\n\n", i)
		}
		want.WriteString("id: " + last + "\n\n")
		var once sync.Once
		h := &sse.Handler{Broadcaster: hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Last: 1000, Filter: func(m *broadcast.Message) bool {
				once.Do(func() {
					for i := range 300 {
						data := "live " + strconv.Itoa(i)
						want.WriteString(tick(publish(t, hub, "a", data), data))
					}
				})
				return true
			}}, nil
		}}
		got := record(t, h, "/", "", nil)
		require.Equal(t, want.String(), got)
	})
}

func TestGrantRefuses(t *testing.T) {
	leaves := func(r *http.Request, left *atomic.Int32) { context.AfterFunc(r.Context(), func() { left.Add(1) }) }
	for _, test := range []struct {
		name, why string
		grant     func(r *http.Request) (*fanfare.Grant, error)
		status    int
		logged    string
	}{
		{"an error", "it is our fault, and says nothing to the client",
			func(*http.Request) (*fanfare.Grant, error) { return nil, errors.New("the secret database is down") }, 500, "the secret database is down"},
		{"a Refusal", "it is the client's fault",
			func(*http.Request) (*fanfare.Grant, error) {
				return nil, &fanfare.Refusal{Status: 401, Err: errors.New("the secret token is old")}
			}, 401, "the secret token is old"},
		{"a Refusal in an error", "wrapping does not hide it",
			func(*http.Request) (*fanfare.Grant, error) {
				return nil, fmt.Errorf("secret: %w", &fanfare.Refusal{Status: 404})
			}, 404, "secret"},
		{"a Grant with an error", "the error counts",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}}, &fanfare.Refusal{}
			}, 403, "refused with status"},
		{"neither", "nobody has been granted anything",
			func(*http.Request) (*fanfare.Grant, error) { return nil, nil }, 500, "neither a Grant nor an error"},
		{"no Topics", "it would be a stream of nothing",
			func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{}, nil }, 500, "without Topics"},
		{"an empty topic", "there is none of that name",
			func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: []string{"a", ""}}, nil }, 500, "topic is empty"},
		{"too many topics", "a Hub takes 1,000",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: slices.Repeat([]string{"a"}, 1001)}, nil
			}, 500, "1001 topics"},
		{"Expires in the past", "its token is not good any more",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(-time.Second)}, nil
			}, 401, "expired already"},
		{"Expires now", "a stream that ends as it begins would come back at once",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now()}, nil
			}, 401, "expired already"},
		{"a panic", "one client's trouble is not the others'",
			func(*http.Request) (*fanfare.Grant, error) { panic("secret") }, 500, "panic in Handler.Grant: secret"},
		{"Snapshot's error", "nothing has been sent yet",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
					return nil, errors.New("no secret state")
				}}, nil
			}, 500, "no secret state"},
		{"Snapshot's Refusal", "nothing has been sent yet",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
					return nil, &fanfare.Refusal{Status: 503}
				}}, nil
			}, 503, "refused with status 503"},
		{"a panic in Snapshot", "nothing has been sent yet",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
					panic("secret")
				}}, nil
			}, 500, "panic in Grant.Snapshot: secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var hub broadcast.Hub
			var left atomic.Int32
			log := &logbook{}
			h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
				leaves(r, &left)
				return test.grant(r)
			}}
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/")
				assert.Equal(t, test.status, s.StatusCode, test.why)
				body, err := s.rest()
				require.NoError(t, err)
				assert.Equal(t, http.StatusText(test.status)+"\n", body)
				assert.Equal(t, "no-store", s.Header.Get("Cache-Control"))
				assert.NotContains(t, fmt.Sprint(s.Header), "secret")
				assert.Zero(t, hub.Stats().Subscriptions)
				synctest.Wait()
				assert.EqualValues(t, 1, left.Load(), "who was let in has left again")
				require.Len(t, log.lines, 1, "each refusal is logged once")
				line := log.lines[0]
				assert.Contains(t, line["reason"], test.logged)
				assert.EqualValues(t, test.status, line["status"])
				assert.Equal(t, "/", line["path"])
				assert.Equal(t, map[bool]string{true: "ERROR", false: "INFO"}[test.status == 500], line["level"])
			})
		})
	}
}

func TestAbortInGrant(t *testing.T) {
	var hub broadcast.Hub
	var left atomic.Int32
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
		context.AfterFunc(r.Context(), func() { left.Add(1) })
		panic(http.ErrAbortHandler)
	}}
	w := httptest.NewRecorder()
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)) },
		"net/http knows what that means, and nobody else")
	require.Empty(t, w.Body.String())
	require.Empty(t, log.lines)
	require.Eventually(t, func() bool { return left.Load() == 1 }, 5*time.Second, time.Millisecond)
}

// TestSnapshotFailsLater ends a stream whose client would otherwise go on with a
// state that has a hole.
func TestSnapshotFailsLater(t *testing.T) {
	log := &logbook{}
	b := &scripted{begin: broadcast.MakeID(2, 1)}
	calls := 0
	h := &sse.Handler{Broadcaster: b, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
			if calls++; calls == 1 {
				return nil, nil
			}
			return nil, errors.New("no state any more")
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		require.Equal(t, "retry: 3000\nid: 2-1\n\n", s.now())
		b.says(look{messages: []broadcast.Message{{ID: broadcast.MakeID(2, 2), Topic: "a", Data: []byte("x")}}})
		s.says("id: 2-2\ndata: x\n\n")
		b.says(look{err: &broadcast.GapError{ID: broadcast.MakeID(2, 8)}, position: broadcast.MakeID(2, 8)})
		s.ends() // it comes back with 2-2, and is told of the gap again
		synctest.Wait()
		require.Equal(t, 2, calls)
		require.Len(t, log.with("ended a stream"), 1)
		require.Equal(t, "ERROR", log.with("ended a stream")[0]["level"])
		require.Contains(t, log.with("ended a stream")[0]["error"], "no state any more")
	})
}

// TestContextOfSnapshot wants a context of the call, of which nothing is left.
func TestContextOfSnapshot(t *testing.T) {
	type key struct{}
	var hub broadcast.Hub
	var ctx context.Context
	h := &sse.Handler{Broadcaster: &hub, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(c context.Context) ([]broadcast.Message, error) {
			ctx = c
			return nil, c.Err()
		}}, nil
	}}
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "value")))
	}), func(t *testing.T, n *network) {
		s := n.get("/")
		s.begins()
		require.Error(t, ctx.Err(), "the call is over")
		require.Equal(t, "value", ctx.Value(key{}), "it comes from the stream's")
		require.NoError(t, hub.Close())
		s.ends()
		synctest.Wait()
	})
}

func TestFilter(t *testing.T) {
	var hub broadcast.Hub
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
		me := r.URL.Query().Get("me")
		return &fanfare.Grant{Topics: []string{"a"}, Filter: func(m *broadcast.Message) bool {
			if string(m.Data) == "poison" {
				panic("in Filter")
			}
			return m.From != me
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		me, other := n.get("/?me=me"), n.get("/?me=other")
		me.begins()
		other.begins()
		put := func(data string) string {
			id, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: "tick", From: "me", Data: []byte(data)})
			require.NoError(t, err)
			return id.String()
		}
		id := put("hello")
		other.says(tick(id, "hello"))
		require.Empty(t, me.now())
		me.says("id: " + id + "\n\n") // with a heartbeat, so that it does not grow too old
		time.Sleep(20 * time.Second)
		other.now() // heartbeats
		me.now()

		poison := put("poison")
		after := put("after")
		other.says(tick(after, "after"))
		me.says("id: " + after + "\n\n")
		lines := log.with("dropped a message")
		require.Len(t, lines, 1, "once for the message, not for each stream")
		require.Equal(t, "ERROR", lines[0]["level"])
		require.Equal(t, poison, lines[0]["id"])
		require.Equal(t, "a", lines[0]["topic"])
		require.Contains(t, lines[0]["error"], "panic in Grant.Filter: in Filter")

		s := n.get("/?me=me", "Last-Event-ID", id)
		require.Equal(t, "retry: 3000\nid: "+id+"\n\n", s.now())
		s.says("id: " + after + "\n\n")
		require.Len(t, log.with("dropped a message"), 1, "nor for one that resumes")
	})
}

// TestPoison publishes messages that cannot be put on the wire, to many streams.
func TestPoison(t *testing.T) {
	const streams = 100
	for _, test := range []struct {
		name, why string
		encode    func() (sse.Event, bool)
		logged    string // "" for nothing
	}{
		{"CR in the type", "it would begin another line", func() (sse.Event, bool) { return sse.Event{Type: "a\rdata: forged"}, true }, "CR, LF or NUL"},
		{"LF in the type", "it would begin another line", func() (sse.Event, bool) { return sse.Event{Type: "a\nb"}, true }, "CR, LF or NUL"},
		{"NUL in the type", "clients do not agree on it", func() (sse.Event, bool) { return sse.Event{Type: "a\x00"}, true }, "CR, LF or NUL"},
		{"a type that is not UTF-8", "clients would see another", func() (sse.Event, bool) { return sse.Event{Type: "\xff"}, true }, "not UTF-8"},
		{"data that is not UTF-8", "clients would see other data", func() (sse.Event, bool) { return sse.Event{Data: []byte("\xff")}, true }, "not UTF-8"},
		{"a forged gap", "the stream says that itself", func() (sse.Event, bool) { return sse.Event{Type: "gap"}, true }, `"gap" is reserved`},
		{"a forged open", "an EventSource fires that itself", func() (sse.Event, bool) { return sse.Event{Type: "open"}, true }, `"open" is reserved`},
		{"a forged error", "an EventSource fires that itself", func() (sse.Event, bool) { return sse.Event{Type: "error"}, true }, `"error" is reserved`},
		{"a panic", "all streams would end, and come back to it", func() (sse.Event, bool) { panic("in Encode") }, "panic in Handler.Encode: in Encode"},
		{"false", "it is not for anybody", func() (sse.Event, bool) { return sse.Event{Type: "gap", Data: []byte("\xff")}, false }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				log := &logbook{}
				h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: log.logger(), Encode: func(m *broadcast.Message) (sse.Event, bool) {
					if string(m.Data) == "poison" {
						return test.encode()
					}
					return sse.Event{Type: m.Type, Data: m.Data}, true
				}}
				begin := position(t, &hub)
				var all sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				recorders := make([]*recorder, streams)
				for i := range recorders {
					recorders[i] = &recorder{header: http.Header{}}
					all.Go(func() {
						h.ServeHTTP(recorders[i], httptest.NewRequestWithContext(ctx, "GET", "/", nil))
					})
				}
				synctest.Wait()
				one := publish(t, &hub, "a", "1")
				publish(t, &hub, "a", "poison")
				two := publish(t, &hub, "a", "2")
				synctest.Wait()
				last := publish(t, &hub, "a", "poison")
				time.Sleep(16 * time.Second)
				for _, w := range recorders {
					require.Equal(t, "retry: 3000\nid: "+begin+"\n\n"+tick(one, "1")+tick(two, "2")+"id: "+last+"\n\n", w.sent(), test.why)
				}
				resumed := record(t, h, "/", one, nil)
				require.Equal(t, "retry: 3000\nid: "+one+"\n\n"+tick(two, "2"), resumed)
				cancel()
				all.Wait()

				lines := log.with("dropped a message")
				if test.logged == "" {
					require.Empty(t, lines)
					return
				}
				require.Len(t, lines, 2, "once for each of the two messages")
				require.Equal(t, last, lines[1]["id"])
				require.Equal(t, "tick", lines[1]["type"])
				require.Equal(t, "ERROR", lines[1]["level"])
				require.Contains(t, lines[1]["error"], test.logged)
			})
		})
	}
}

// TestPoisonInSnapshot has what no Publish has looked at.
func TestPoisonInSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		log := &logbook{}
		h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
				return []broadcast.Message{
					{Type: "a\nb", Data: []byte("1")},
					{Type: "gap", Data: []byte("2")},
					{Data: []byte("\xff")},
					{Type: "good", Data: []byte("3")},
				}, nil
			}}, nil
		}}
		got := record(t, h, "/", "", nil)
		require.Equal(t, "retry: 3000\nevent: good\ndata: 3\n\nid: "+position(t, &hub)+"\n\n", got)
		require.Len(t, log.with("dropped a message"), 3)
	})
}

// TestEncodeOnce counts how often messages are encoded for many streams.
func TestEncodeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, messages = 100, 200
		var hub broadcast.Hub
		var calls atomic.Int64
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent, Encode: func(m *broadcast.Message) (sse.Event, bool) {
			calls.Add(1)
			return sse.Event{Data: m.Data}, true
		}}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		open := func(target string) {
			for range streams {
				w := &recorder{header: http.Header{}}
				all.Go(func() { h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", target, nil)) })
			}
			synctest.Wait()
		}
		open("/")
		first := ""
		for i := range messages {
			id := publish(t, &hub, "a", strconv.Itoa(i))
			if i == 0 {
				first = id
			}
		}
		synctest.Wait()
		require.EqualValues(t, messages, calls.Load())
		open("/?lastEventId=" + first)
		require.EqualValues(t, messages, calls.Load(), "those who come later as well")
		open("/?envelope=1&lastEventId=" + before(t, first))
		require.EqualValues(t, 2*messages, calls.Load(), "once more for the other form")
		cancel()
		all.Wait()
	})
}

func TestRefusals(t *testing.T) {
	eventSource := []string{"Accept", "text/event-stream", "Cache-Control", "no-cache"}
	for _, test := range []struct {
		name, why  string
		err        error
		header     []string
		status     int    // of the answer
		logged     int    // 0: status
		retryAfter string // of an answer with a status that stands
	}{
		{name: "no status", why: "the client may not", err: &fanfare.Refusal{}, status: 403},
		{name: "401", why: "who are you?", err: &fanfare.Refusal{Status: 401}, status: 401},
		{name: "404", why: "there is no such room", err: &fanfare.Refusal{Status: 404}, status: 404},
		{name: "204", why: "an EventSource stops for good", err: &fanfare.Refusal{Status: 204}, status: 204},
		{name: "410", why: "it is final", err: &fanfare.Refusal{Status: 410}, status: 410},
		{name: "429", why: "with the time to wait", err: &fanfare.Refusal{Status: 429, RetryAfter: 90 * time.Second}, status: 429, retryAfter: "90"},
		{name: "429 with a fraction", why: "a second too late rather than too early", err: &fanfare.Refusal{Status: 429, RetryAfter: 1001 * time.Millisecond}, status: 429, retryAfter: "2"},
		{name: "503", why: "nobody knows how long", err: &fanfare.Refusal{Status: 503}, status: 503},
		{name: "another error", why: "it is ours", err: errors.New("secret"), status: 500},
		{name: "status 200", why: "that is no refusal", err: &fanfare.Refusal{Status: 200}, status: 500},
		{name: "status 302", why: "an EventSource would not follow it as a stream", err: &fanfare.Refusal{Status: 302}, status: 500},
		{name: "status 100", why: "net/http would go on waiting", err: &fanfare.Refusal{Status: 100}, status: 500},
		{name: "status 7", why: "net/http would panic", err: &fanfare.Refusal{Status: 7}, status: 500},
		{name: "status 600", why: "there is none", err: &fanfare.Refusal{Status: 600}, status: 500},
		{name: "status -1", why: "there is none", err: &fanfare.Refusal{Status: -1}, status: 500},

		{name: "403 to an EventSource", why: "final is final", err: &fanfare.Refusal{}, header: eventSource, status: 403},
		{name: "401 to an EventSource", why: "final is final", err: &fanfare.Refusal{Status: 401}, header: eventSource, status: 401},
		{name: "204 to an EventSource", why: "it is what stops it", err: &fanfare.Refusal{Status: 204}, header: eventSource, status: 204},
		{name: "429 to an EventSource", why: "it would give up for good", err: &fanfare.Refusal{Status: 429, RetryAfter: 90 * time.Second}, header: eventSource, status: 200, logged: 429, retryAfter: "90"},
		{name: "429 to an EventSource, for a moment", why: "they do not all come back in that moment", err: &fanfare.Refusal{Status: 429, RetryAfter: time.Second}, header: eventSource, status: 200, logged: 429, retryAfter: "1"},
		{name: "503 to an EventSource", why: "it would give up for good", err: &fanfare.Refusal{Status: 503}, header: eventSource, status: 200, logged: 503},
		{name: "502 to an EventSource", why: "it would give up for good", err: &fanfare.Refusal{Status: 502}, header: eventSource, status: 200, logged: 502},
		{name: "an error to an EventSource", why: "it would give up for good", err: errors.New("secret"), header: eventSource, status: 200, logged: 500},
		{name: "503 to a fetch-based client", why: "it takes an ended stream for the end", err: &fanfare.Refusal{Status: 503, RetryAfter: time.Minute},
			header: []string{"Accept", "text/event-stream"}, status: 503, retryAfter: "60"},
		{name: "503 to a client that takes more", why: "an EventSource takes nothing else", err: &fanfare.Refusal{Status: 503},
			header: []string{"Accept", "text/event-stream, */*", "Cache-Control", "no-cache"}, status: 503},
		{name: "503 to a client that takes more, in two lines", why: "an EventSource takes nothing else", err: &fanfare.Refusal{Status: 503},
			header: []string{"Accept", "text/event-stream", "Accept", "*/*", "Cache-Control", "no-cache"}, status: 503},
		{name: "503 to a client that may be cached", why: "an EventSource may not", err: &fanfare.Refusal{Status: 503},
			header: []string{"Accept", "text/event-stream", "Cache-Control", "max-age=0"}, status: 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &logbook{}
			var hub broadcast.Hub
			h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) { return nil, test.err }}
			shortest, longest := time.Duration(math.MaxInt64), time.Duration(0)
			const rounds = 200
			for range rounds {
				r := httptest.NewRequest("GET", "/", nil)
				for i := 0; i < len(test.header); i += 2 {
					r.Header.Add(test.header[i], test.header[i+1])
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				require.Equal(t, test.status, w.Code, test.why)
				require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
				require.NotContains(t, w.Body.String(), "secret")
				switch {
				case test.status == 204:
					require.Empty(t, w.Body.String())
				case test.status != 200:
					require.Equal(t, http.StatusText(test.status)+"\n", w.Body.String())
					require.Equal(t, test.retryAfter, w.Header().Get("Retry-After"))
				default:
					require.Equal(t, "text/event-stream", w.Header().Get("Content-Type"))
					body := sse.NewReader(w.Body)
					_, err := body.Read()
					require.Equal(t, io.EOF, err, "nothing fires")
					require.Empty(t, body.LastEventID(), "where it was is where it resumes")
					shortest, longest = min(shortest, body.Retry()), max(longest, body.Retry())
					if test.retryAfter != "" {
						require.Equal(t, test.retryAfter, w.Header().Get("Retry-After"))
					} else {
						seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
						require.NoError(t, err)
						require.InDelta(t, body.Retry().Seconds()+0.5, seconds, 0.501, "the same in whole seconds, rounded up")
					}
				}
			}
			if test.status == 200 {
				window := 5 * time.Second
				if refusal, ok := errors.AsType[*fanfare.Refusal](test.err); ok {
					window = max(window, refusal.RetryAfter)
				}
				assert.GreaterOrEqual(t, shortest, time.Second)
				assert.LessOrEqual(t, longest, window)
				assert.Greater(t, longest-shortest, window/2, "those who are refused together do not come back together")
			}
			if test.logged == 0 {
				test.logged = test.status
			}
			require.Len(t, log.lines, rounds)
			assert.EqualValues(t, test.logged, log.lines[0]["status"], "what it stands for")
		})
	}
}

func TestErrorHandler(t *testing.T) {
	var hub broadcast.Hub
	refusal := &fanfare.Refusal{Status: 429}
	log := &logbook{}
	h := &sse.Handler{
		Broadcaster: &hub,
		Logger:      log.logger(),
		Grant:       func(*http.Request) (*fanfare.Grant, error) { return nil, refusal },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprint(w, r.URL.Path, errors.Is(err, refusal))
		},
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/path", nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	h.ServeHTTP(w, r)
	assert.Equal(t, http.StatusTeapot, w.Code, "it answers, and nobody else")
	assert.Equal(t, "/pathtrue", w.Body.String())
	assert.Empty(t, w.Header())
	require.Len(t, log.lines, 1)
	assert.EqualValues(t, 429, log.lines[0]["status"])
}

func TestHandlerThatCannotWork(t *testing.T) {
	var hub, closed broadcast.Hub
	require.NoError(t, closed.Close())
	for _, test := range []struct {
		name, why string
		h         *sse.Handler
		status    int
		says      string
	}{
		{"no Broadcaster", "the field has to be set", &sse.Handler{Topics: []string{"a"}}, 500, "sse: Handler.Broadcaster is nil"},
		{"neither Topics nor Grant", "it would be a stream of nothing", &sse.Handler{Broadcaster: &hub}, 500, "sse: Handler has neither Topics nor Grant"},
		{"empty Topics", "it would be a stream of nothing", &sse.Handler{Broadcaster: &hub, Topics: []string{}}, 500, "neither Topics nor Grant"},
		{"a topic that cannot be", "Subscribe says so", &sse.Handler{Broadcaster: &hub, Topics: []string{"a\n"}}, 500, "the topic"},
		{"a Hub that cannot work", "Subscribe says so", &sse.Handler{Broadcaster: &broadcast.Hub{Keep: -1}, Topics: []string{"a"}}, 500, "Hub.Keep"},
		{"a closed Broadcaster", "another server goes on", &sse.Handler{Broadcaster: &closed, Topics: []string{"a"}}, 503, "closed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &logbook{}
			test.h.Logger = log.logger()
			w := httptest.NewRecorder()
			test.h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			assert.Equal(t, test.status, w.Code, test.why)
			assert.Equal(t, http.StatusText(test.status)+"\n", w.Body.String())
			require.Len(t, log.lines, 1)
			assert.Contains(t, log.lines[0]["reason"], test.says)
		})
	}
}

// TestClientLeavesBeforeTheStream is no fault of ours, which is what Error is for.
func TestClientLeavesBeforeTheStream(t *testing.T) {
	var hub broadcast.Hub
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
		<-r.Context().Done()
		if r.URL.Path == "/query" {
			return nil, fmt.Errorf("the query: %w", r.Context().Err())
		}
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}}
	for _, path := range []string{"/", "/query"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", path, nil))
		assert.Equal(t, 500, w.Code)
	}
	require.Len(t, log.lines, 2)
	for _, line := range log.lines {
		assert.Equal(t, "DEBUG", line["level"])
	}
}

func TestHeartbeat(t *testing.T) {
	for _, test := range []struct {
		name, why string
		heartbeat time.Duration
		at        map[time.Duration]string // the topic that something is published on
		until     time.Duration
		want      []string // what comes: "beat", "position" or "message", with the second
	}{
		{"silence", "a proxy would cut it", 0, nil, 46 * time.Second,
			[]string{"beat 15s", "beat 30s", "beat 45s"}},
		{"messages", "a heartbeat comes when nothing else came for as long", 0,
			map[time.Duration]string{10 * time.Second: "a", 20 * time.Second: "a"}, 51 * time.Second,
			[]string{"message 10s", "message 20s", "beat 35s", "beat 50s"}},
		{"other topics", "the position moves, and a position is a heartbeat", 0,
			map[time.Duration]string{20 * time.Second: "other", 21 * time.Second: "other"}, 46 * time.Second,
			[]string{"beat 15s", "position 30s", "beat 45s"}},
		{"other topics all the time", "the position is never old", 0,
			map[time.Duration]string{1 * time.Second: "other", 16 * time.Second: "other", 31 * time.Second: "other"}, 61 * time.Second,
			[]string{"position 15s", "position 30s", "position 45s", "beat 1m0s"}},
		{"filtered", "bytes count, not messages", 0,
			map[time.Duration]string{10 * time.Second: "filtered"}, 31 * time.Second,
			[]string{"position 15s", "beat 30s"}},
		{"a message behind other topics", "it has told the position", 0,
			map[time.Duration]string{10 * time.Second: "other", 11 * time.Second: "a"}, 27 * time.Second,
			[]string{"message 11s", "beat 26s"}},
		{"more often", "it is the handler's to choose", time.Second, nil, 3500 * time.Millisecond,
			[]string{"beat 1s", "beat 2s", "beat 3s"}},
		{"none", "negative turns it off", -1, map[time.Duration]string{time.Hour: "other"}, 24 * time.Hour, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var hub broadcast.Hub
			h := &sse.Handler{Broadcaster: &hub, Options: sse.Options{Heartbeat: test.heartbeat}, Grant: func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a", "filtered"}, Filter: func(m *broadcast.Message) bool { return m.Topic == "a" }}, nil
			}}
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/")
				s.begins()
				began := time.Now()
				for after, topic := range test.at {
					time.AfterFunc(after, func() { publish(t, &hub, topic, "x") })
				}
				var got []string
				for time.Since(began) < test.until {
					step := 500 * time.Millisecond
					if test.until > time.Hour {
						step = time.Hour
					}
					time.Sleep(step)
					at := time.Since(began)
					switch sent := s.now(); {
					case sent == "":
					case sent == ":\n":
						got = append(got, fmt.Sprint("beat ", at))
					case sent == "id: "+position(t, &hub)+"\n\n":
						got = append(got, fmt.Sprint("position ", at))
					case sent == tick(position(t, &hub), "x"):
						got = append(got, fmt.Sprint("message ", at))
					default:
						got = append(got, sent)
					}
				}
				require.Equal(t, test.want, got, test.why)
				s.cancel()
				synctest.Wait()
			})
		})
	}
}

// TestPositionWaitsForMessages lets heartbeats come due while a client is stuck.
// Had it been told the position meanwhile, it would miss what was still to come.
func TestPositionWaitsForMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Options: sse.Options{Heartbeat: time.Second}}
		begin := position(t, &hub)
		var want string
		got := record(t, h, "/", "", func(w *recorder) {
			letGo := w.stuck()
			want += tick(publish(t, &hub, "a", "1"), "1")
			synctest.Wait() // it is on its way, and waits
			want += tick(publish(t, &hub, "a", "2"), "2")
			want += tick(publish(t, &hub, "a", "3"), "3")
			last := publish(t, &hub, "other", "4")
			time.Sleep(10500 * time.Millisecond)
			letGo()
			time.Sleep(3500 * time.Millisecond)
			want += "id: " + last + "\n\n:\n:\n"
		})
		require.Equal(t, "retry: 3000\nid: "+begin+"\n\n"+want, got)
	})
}

// TestEnds ends streams in each way there is.
func TestEnds(t *testing.T) {
	type end struct {
		*network
		s   *stream
		hub *broadcast.Hub
	}
	for _, test := range []struct {
		name, why string
		target    string
		options   sse.Options
		end       func(e end)
		reason    string
		cut       bool          // it does not end as a response does
		after     time.Duration // from the beginning; 0: at once
		atMost    time.Duration
	}{
		{name: "the Grant expires", why: "with the token that opened it", target: "/expires",
			reason: "expired", after: 20 * time.Second},
		{name: "MaxAge", why: "the client moves on to a new server", options: sse.Options{MaxAge: 100 * time.Second},
			reason: "restart", after: 80 * time.Second, atMost: 100 * time.Second},
		{name: "Hub.Close", why: "nothing comes any more",
			end: func(e end) { require.NoError(e.t, e.hub.Close()) }, reason: "restart"},
		{name: "Server.Shutdown", why: "it waits for streams for ever",
			end: func(e end) { require.NoError(e.t, e.server.Shutdown(e.t.Context())) }, reason: "restart", atMost: time.Second},
		{name: "the client leaves", why: "there is nobody to write to",
			end: func(e end) { e.s.cancel() }, reason: "request ended", cut: true},
		{name: "Server.Close", why: "the connection is gone",
			end: func(e end) { e.server.Close() }, reason: "request ended", cut: true},
		{name: "a middleware ends the context", why: "it is how it takes part", target: "/middleware",
			reason: "request ended", after: 20 * time.Second},
		{name: "a deadline on the context", why: "it ends the context", target: "/deadline",
			reason: "request ended", after: 20 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			var hub broadcast.Hub
			var left atomic.Int32
			log := &logbook{}
			h := &sse.Handler{Broadcaster: &hub, Options: test.options, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
				context.AfterFunc(r.Context(), func() { left.Add(1) })
				g := &fanfare.Grant{Topics: []string{"a"}}
				if r.URL.Path == "/expires" {
					g.Expires = time.Now().Add(20 * time.Second)
				}
				return g, nil
			}}
			returned := false
			middleware := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/middleware":
					ctx, cancel := context.WithCancel(r.Context())
					time.AfterFunc(20*time.Second, cancel)
					r = r.WithContext(ctx)
				case "/deadline":
					ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
					defer cancel()
					r = r.WithContext(ctx)
				}
				h.ServeHTTP(w, r)
				returned = true
			})
			serve(t, middleware, func(t *testing.T, n *network) {
				s := n.get("/" + strings.TrimPrefix(test.target, "/"))
				began := time.Now()
				id := s.begins()
				require.Zero(t, left.Load())
				require.Equal(t, 1, hub.Stats().Subscriptions)
				if test.end != nil {
					test.end(end{n, s, &hub})
				}
				rest, err := s.rest()
				require.Equal(t, test.cut, err != nil, test.why)
				require.Empty(t, strings.ReplaceAll(rest, ":\n", ""))
				took := time.Since(began)
				require.GreaterOrEqual(t, took, test.after)
				require.LessOrEqual(t, took, max(test.after, test.atMost))

				synctest.Wait()
				require.True(t, returned)
				require.EqualValues(t, 1, left.Load(), "once")
				require.Zero(t, hub.Stats().Subscriptions)
				time.Sleep(time.Hour) // nor later on
				require.EqualValues(t, 1, left.Load(), "once")
				lines := log.with("stream ended")
				require.Len(t, lines, 1)
				require.Equal(t, test.reason, lines[0]["reason"])
				require.Equal(t, "DEBUG", lines[0]["level"])
				require.Equal(t, id, lines[0]["position"])
			})
		})
	}
}

// TestOwedFirst ends streams that have much left to send.
func TestOwedFirst(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(n *network, hub *broadcast.Hub)
		more bool // is published by others afterwards
	}{
		{"Hub.Close", func(n *network, hub *broadcast.Hub) { hub.Close() }, false},
		{"Server.Shutdown", func(n *network, hub *broadcast.Hub) { go n.server.Shutdown(n.t.Context()) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const messages = 1000
			hub := broadcast.Hub{Keep: 2 * messages}
			h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
			serve(t, h, func(t *testing.T, n *network) {
				c := n.stuck("/")
				synctest.Wait()
				var last string
				for i := range messages {
					last = publish(t, &hub, "a", strconv.Itoa(i))
				}
				synctest.Wait() // the stream has only begun, and waits for its client
				test.end(n, &hub)
				synctest.Wait()
				if test.more {
					for range messages {
						publish(t, &hub, "a", "late")
					}
				}
				response, err := http.ReadResponse(bufio.NewReader(c), nil)
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				all, lastEventID := events(t, string(body))
				require.Len(t, all, messages, "all that was in the log, and nothing of what came later")
				require.Equal(t, last, lastEventID)
				synctest.Wait()
				require.Zero(t, hub.Stats().Subscriptions)
			})
		})
	}
}

func TestShutdownOfOneOfTwoServers(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
	serve(t, h, func(t *testing.T, one *network) {
		listener := memnet.Listen()
		other := &network{t: t, listener: listener, server: &http.Server{Handler: h}, transport: &http.Transport{DialContext: listener.DialContext}}
		go other.server.Serve(listener)
		defer other.server.Close()
		defer other.transport.CloseIdleConnections()
		s, same, left := one.get("/"), one.get("/"), other.get("/")
		s.begins()
		same.begins()
		left.begins()
		require.NoError(t, one.server.Shutdown(t.Context()))
		s.ends()
		same.ends()
		require.True(t, left.open())
		id := publish(t, &hub, "a", "x")
		left.says(tick(id, "x"))
		require.NoError(t, other.server.Shutdown(t.Context()))
		left.ends()
	})
}

// TestMaxAge has many streams begin together: they do not come back together.
func TestMaxAge(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Options: sse.Options{MaxAge: 1000 * time.Second}}
	serve(t, h, func(t *testing.T, n *network) {
		began := time.Now()
		var mu sync.Mutex
		var ages []time.Duration
		var all sync.WaitGroup
		for range 200 {
			s := n.get("/")
			all.Go(func() {
				_, err := s.rest()
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				ages = append(ages, time.Since(began))
			})
		}
		all.Wait()
		slices.Sort(ages)
		assert.GreaterOrEqual(t, ages[0], 800*time.Second)
		assert.LessOrEqual(t, ages[len(ages)-1], 1000*time.Second)
		assert.Less(t, ages[10], 850*time.Second, "all over the fifth")
		assert.Greater(t, ages[len(ages)-10], 950*time.Second, "all over the fifth")
	})
}

func TestDeadlineIsWarnedOfOnce(t *testing.T) {
	var hub broadcast.Hub
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: log.logger()}
	timeout := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 50*time.Second)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
	serve(t, timeout, func(t *testing.T, n *network) {
		for range 3 {
			s := n.get("/events")
			s.begins()
			rest, err := s.rest()
			require.NoError(t, err, "it is no failure")
			require.Equal(t, ":\n:\n:\n", rest)
		}
		lines := log.with("deadline")
		require.Len(t, lines, 1)
		require.Equal(t, "WARN", lines[0]["level"])
		require.Equal(t, "/events", lines[0]["path"])
		require.Contains(t, lines[0]["msg"], "timeout middleware")
	})
}

// TestServersTimeouts keeps a stream for long over a server whose timeouts are a
// second, and then uses its connection again.
func TestServersTimeouts(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Hour)}, nil
	}}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(900 * time.Millisecond)
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body), err)
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(1100 * time.Millisecond)
		fmt.Fprint(w, strings.Repeat("x", 10_000))
	})
	for _, method := range []string{"GET", "HEAD"} {
		serve(t, mux, func(t *testing.T, n *network) {
			s := n.do(method, "/", nil)
			if method == "GET" {
				s.begins()
				time.Sleep(30 * time.Minute)
				s.now()
				id := publish(t, &hub, "a", "x")
				s.says(tick(id, "x"))
				rest, err := s.rest()
				require.NoError(t, err)
				require.Empty(t, strings.ReplaceAll(rest, ":\n", ""))
			} else {
				s.ends()
			}
			time.Sleep(time.Minute)

			synctest.Wait() // until the client has its connection back, here and below
			answer, err := n.do("POST", "/slow", strings.NewReader("body")).rest()
			require.NoError(t, err)
			require.Equal(t, "4 <nil>", answer)
			synctest.Wait()
			again := n.do(method, "/", nil)
			if method == "GET" {
				again.begins()
				again.rest()
			}
			synctest.Wait()
			answer, err = n.get("/slow").rest()
			require.NoError(t, err)
			require.Equal(t, "0 <nil>", answer)
			require.EqualValues(t, 1, n.dials.Load(), "all over one connection")

			// Its timeouts are in force again.
			synctest.Wait()
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory/late", nil)
			require.NoError(t, err)
			response, err := n.transport.RoundTrip(r)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			require.Error(t, err)
		}, func(n *network) { n.server.IdleTimeout = time.Hour })
	}
}

// TestClientThatNeverReads is cut, costs little, and nobody else notices.
func TestClientThatNeverReads(t *testing.T) {
	for _, test := range []struct {
		name      string
		timeout   time.Duration
		messages  int // of 400 kB
		from, max time.Duration
	}{
		{"by default", 0, 60, 5 * time.Second, 10 * time.Second},
		{"as the handler chooses", 4 * time.Second, 3, 2 * time.Second, 4 * time.Second},
		{"never", -1, 3, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := broadcast.Hub{Keep: 4}
			log := &logbook{}
			var left atomic.Int32
			h := &sse.Handler{Broadcaster: &hub, Options: sse.Options{WriteTimeout: test.timeout}, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
				context.AfterFunc(r.Context(), func() { left.Add(1) })
				return &fanfare.Grant{Topics: []string{"a"}}, nil
			}}
			serve(t, h, func(t *testing.T, n *network) {
				before := heap()
				stuck := n.stuck("/")
				synctest.Wait() // until its stream stands
				began := time.Now()
				s := n.get("/")
				s.begins()
				data := strings.Repeat("x", 400_000)
				var most uint64
				for i := range test.messages {
					at := time.Now()
					id := publish(t, &hub, "a", data)
					s.says(tick(id, data))
					require.Equal(t, at, time.Now(), "nobody else waits")
					if i%20 == 19 {
						most = max(most, heap()-min(before, heap()))
					}
				}
				require.Less(t, most, uint64(22<<20), "24 MB have been published, and encoded")
				require.Equal(t, 2, hub.Stats().Subscriptions)
				if test.max == 0 {
					time.Sleep(time.Hour)
					require.Equal(t, 2, hub.Stats().Subscriptions)
					stuck.Close()
					s.cancel()
					synctest.Wait()
					return
				}
				for hub.Stats().Subscriptions == 2 {
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
				}
				require.GreaterOrEqual(t, time.Since(began), test.from)
				require.LessOrEqual(t, time.Since(began), test.max+10*time.Millisecond)
				require.EqualValues(t, 1, left.Load())
				require.Len(t, log.with("stream ended"), 1)
				require.Equal(t, "write failed", log.with("stream ended")[0]["reason"])
				_, err := io.ReadAll(stuck)
				require.NoError(t, err, "the connection is closed")
				require.True(t, s.open())
				s.cancel()
				synctest.Wait()
			})
		})
	}
}

// heap returns how much is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSlowClient reads less than a second's worth at a time. What goes out in one
// write is bounded, so that it is not cut for having been given too much.
func TestSlowClient(t *testing.T) {
	for _, test := range []struct {
		name  string
		pause time.Duration // between 16 KiB
		cut   bool
	}{
		{"slow", time.Second, false},
		{"too slow", 4 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const messages = 40
			hub := broadcast.Hub{}
			log := &logbook{}
			h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: log.logger(), Options: sse.Options{Heartbeat: -1}}
			serve(t, h, func(t *testing.T, n *network) {
				c := n.stuck("/")
				synctest.Wait()
				data := strings.Repeat("x", 30_000)
				for range messages {
					publish(t, &hub, "a", data)
				}
				began := time.Now()
				buf := make([]byte, 16<<10)
				var got int
				for got+len(buf) < messages*len(data) {
					k, err := io.ReadFull(c, buf)
					got += k
					if err != nil {
						break
					}
					time.Sleep(test.pause)
				}
				synctest.Wait()
				require.Equal(t, test.cut, hub.Stats().Subscriptions == 0)
				if test.cut {
					require.Equal(t, "write failed", log.with("stream ended")[0]["reason"])
				} else {
					require.Greater(t, time.Since(began), 60*time.Second, "far beyond one timeout")
				}
				c.Close()
				synctest.Wait()
			})
		})
	}
}

// TestWrites looks at how what waits is put into writes.
func TestWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 1000}
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
		record(t, h, "/", "", func(w *recorder) {
			writes := func() []int {
				synctest.Wait()
				w.mu.Lock()
				defer w.mu.Unlock()
				sizes := w.writes
				w.writes = nil
				return sizes
			}
			require.Len(t, writes(), 1, "the beginning")
			burst := func(messages, size int) {
				letGo := w.stuck()
				publish(t, &hub, "a", "first")
				synctest.Wait()
				for range messages {
					publish(t, &hub, "a", strings.Repeat("x", size))
				}
				letGo()
			}
			burst(200, 100)
			require.Len(t, writes(), 2, "the first, then all that has come meanwhile in one")
			burst(10, 30_000)
			sizes := writes()
			require.Len(t, sizes, 6, "two to a write")
			for _, size := range sizes {
				require.LessOrEqual(t, size, 64<<10)
			}
			burst(3, 300_000)
			require.Len(t, writes(), 16, "a message larger than that has as many as it takes")
		})
	})
}

// noFlush hides all that a ResponseWriter has beside its own three methods.
type noFlush struct{ http.ResponseWriter }

// flushOnly hides deadlines.
type flushOnly struct{ http.ResponseWriter }

func (w flushOnly) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// unwraps is as a wrapper should be.
type unwraps struct{ http.ResponseWriter }

func (w unwraps) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestResponseWriters(t *testing.T) {
	for _, test := range []struct {
		name, why string
		wrap      func(http.ResponseWriter) http.ResponseWriter
		error     string // what the refusal names
		warned    string // the wrapper that is warned of
	}{
		{"the server's own", "nothing is in the way", func(w http.ResponseWriter) http.ResponseWriter { return w }, "", ""},
		{"wrapped", "Unwrap leads to it", func(w http.ResponseWriter) http.ResponseWriter { return unwraps{w} }, "", ""},
		{"wrapped twice", "Unwrap leads to it", func(w http.ResponseWriter) http.ResponseWriter { return unwraps{unwraps{w}} }, "", ""},
		{"without Flush", "the client would wait for its first byte", func(w http.ResponseWriter) http.ResponseWriter { return noFlush{w} }, "sse_test.noFlush", ""},
		{"without Flush behind a wrapper", "the one that is in the way is named", func(w http.ResponseWriter) http.ResponseWriter { return unwraps{noFlush{w}} }, "sse_test.noFlush", ""},
		{"without deadlines", "it streams, as far as it can", func(w http.ResponseWriter) http.ResponseWriter { return flushOnly{w} }, "", "sse_test.flushOnly"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var hub broadcast.Hub
			log := &logbook{}
			granted := 0
			h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
				granted++
				return &fanfare.Grant{Topics: []string{"a"}}, nil
			}}
			var refused error
			if test.error != "" {
				h.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
					refused = err
					w.WriteHeader(http.StatusTeapot)
				}
			}
			wrapped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(test.wrap(w), r) })
			serve(t, wrapped, func(t *testing.T, n *network) {
				if test.error != "" {
					require.Equal(t, http.StatusTeapot, n.get("/").StatusCode, "nothing has been sent: %s", test.why)
					require.ErrorIs(t, refused, sse.ErrCannotFlush)
					require.ErrorContains(t, refused, test.error)
					require.ErrorContains(t, refused, "Unwrap")
					require.Zero(t, granted)
					require.Len(t, log.lines, 1)
					require.Equal(t, "ERROR", log.lines[0]["level"])
					return
				}
				for range 3 {
					s := n.get("/")
					s.begins()
					id := publish(t, &hub, "a", "x")
					s.says(tick(id, "x"))
					time.Sleep(time.Minute)
					require.Equal(t, ":\n:\n:\n:\n", s.now())
					s.cancel()
					synctest.Wait()
				}
				lines := log.with("deadlines")
				if test.warned == "" {
					require.Empty(t, lines, test.why)
					return
				}
				require.Len(t, lines, 1, "once")
				require.Equal(t, "WARN", lines[0]["level"])
				require.Equal(t, test.warned, lines[0]["wrapper"])
			}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
		})
	}
}

// TestRecorder is what people write first to test their own handlers.
func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent}
		id := publish(t, &hub, "a", "x")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/?lastEventId="+before(t, id), nil))
		require.Equal(t, 200, w.Code)
		require.True(t, w.Flushed)
		require.Equal(t, "retry: 3000\nid: "+before(t, id)+"\n\n"+tick(id, "x"), w.Body.String())
	})
}

// TestOverHTTP2 has a stream that says little: a deadline that is left behind
// resets it there, also if nothing is being written.
func TestOverHTTP2(t *testing.T) {
	var hub broadcast.Hub
	serve(t, &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}, func(t *testing.T, n *network) {
		s, other := n.get("/"), n.get("/")
		require.Equal(t, 2, s.ProtoMajor)
		s.begins()
		other.begins()
		time.Sleep(10 * time.Minute)
		require.Equal(t, strings.Repeat(":\n", 40), s.now())
		id := publish(t, &hub, "a", "x")
		s.says(tick(id, "x"))
		other.cancel()
		time.Sleep(12 * time.Second)
		require.True(t, s.open(), "the end of another stream is its own")
		require.NoError(t, hub.Close())
		s.ends()
		require.EqualValues(t, 1, n.dials.Load())
	}, overHTTP2)
}

func TestStuckOverHTTP2(t *testing.T) {
	hub := broadcast.Hub{}
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: log.logger()}
	serve(t, h, func(t *testing.T, n *network) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory/", nil)
		require.NoError(t, err)
		stuck, err := n.transport.RoundTrip(r) // its body is not read
		require.NoError(t, err)
		defer stuck.Body.Close()
		s := n.get("/")
		s.begins()
		data := strings.Repeat("x", 1<<20)
		began := time.Now()
		for range 10 { // more than a client takes unread
			s.says(tick(publish(t, &hub, "a", data), data))
		}
		require.Equal(t, began, time.Now(), "nobody else waits")
		for hub.Stats().Subscriptions == 2 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		require.LessOrEqual(t, time.Since(began), 10*time.Second+100*time.Millisecond)
		require.Len(t, log.with("stream ended"), 1)
		require.True(t, s.open(), "the connection stands")
		s.cancel()
		synctest.Wait()
	}, overHTTP2)
}

// TestNotAHub streams from a Broadcaster that has the interface's methods alone.
func TestNotAHub(t *testing.T) {
	id := func(seq uint64) broadcast.ID { return broadcast.MakeID(2, seq) }
	message := func(seq uint64) broadcast.Message {
		return broadcast.Message{ID: id(seq), Topic: "a", Data: []byte("x")}
	}
	for _, test := range []struct {
		name, why string
		then      func(t *testing.T, n *network, b *scripted)
		want      string
		reason    string
		errors    int // logged
	}{
		{"Shutdown", "without Finish it gets what is there", func(t *testing.T, n *network, b *scripted) {
			b.mu.Lock() // not woken: the end itself makes it look
			b.looks = append(b.looks, look{messages: []broadcast.Message{message(2), message(3)}})
			b.mu.Unlock()
			require.NoError(t, n.server.Shutdown(t.Context()))
		}, "id: 2-2\ndata: x\n\nid: 2-3\ndata: x\n\n", "restart", 0},
		{"an error of Poll", "it is ours, and the client comes back", func(t *testing.T, n *network, b *scripted) {
			b.says(look{err: errors.New("the engine is on fire")})
		}, "", "fault", 1},
		{"an error of Poll with messages", "they come first", func(t *testing.T, n *network, b *scripted) {
			b.says(look{messages: []broadcast.Message{message(2)}, err: errors.New("the engine is on fire")})
		}, "id: 2-2\ndata: x\n\n", "fault", 1},
		{"the end of the Broadcaster", "what is kept comes first", func(t *testing.T, n *network, b *scripted) {
			b.says(look{messages: []broadcast.Message{message(2)}, err: broadcast.ErrClosed})
		}, "id: 2-2\ndata: x\n\n", "restart", 0},
		{"a wrapped end of the Broadcaster", "it is the end", func(t *testing.T, n *network, b *scripted) {
			b.says(look{err: fmt.Errorf("over: %w", broadcast.ErrClosed)})
		}, "", "restart", 0},
		{"a wrapped gap", "it is a gap", func(t *testing.T, n *network, b *scripted) {
			b.says(look{messages: []broadcast.Message{message(8)}, err: fmt.Errorf("behind: %w", &broadcast.GapError{ID: id(7), Topics: []string{"a"}})})
			synctest.Wait()
			b.says(look{err: broadcast.ErrClosed})
		}, "event: gap\nid: 2-7\ndata: {\"gap\":\"2-7\",\"topics\":[\"a\"]}\n\nid: 2-8\ndata: x\n\n", "restart", 0},
		{"wakes without cause", "it looks, and sleeps again", func(t *testing.T, n *network, b *scripted) {
			for range 100 {
				b.notify()
			}
			synctest.Wait()
			b.says(look{messages: []broadcast.Message{message(2)}})
			synctest.Wait()
			b.says(look{err: broadcast.ErrClosed})
		}, "id: 2-2\ndata: x\n\n", "restart", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &logbook{}
			b := &scripted{begin: id(1)}
			h := &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: log.logger()}
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/")
				s.says("retry: 3000\nid: 2-1\n\n")
				synctest.Wait()
				test.then(t, n, b)
				rest, err := s.rest()
				require.NoError(t, err)
				require.Equal(t, test.want, rest, test.why)
				synctest.Wait()
				require.True(t, b.closed, "the handler closes what it has opened")
				require.Equal(t, test.reason, log.with("stream ended")[0]["reason"])
				require.Len(t, log.with("sse: ended a stream"), test.errors)
			})
		})
	}
	t.Run("an error of the first Poll", func(t *testing.T) {
		b := &scripted{begin: id(1), looks: []look{{err: errors.New("the engine is on fire")}}}
		h := &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: silent}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		require.Equal(t, 500, w.Code, "nothing has been sent yet")
		require.True(t, b.closed)
	})
	t.Run("a panic in Poll", func(t *testing.T) {
		log := &logbook{}
		b := &panics{scripted{begin: id(1)}, 1}
		h := &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: log.logger()}
		require.Panics(t, func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) }, "net/http has a way with these")
		require.True(t, b.closed)
		b = &panics{scripted{begin: id(1)}, 2}
		w := httptest.NewRecorder()
		h = &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: log.logger()}
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		require.Equal(t, "retry: 3000\nid: 2-1\n\n", w.Body.String(), "in the stream's own goroutine nobody else would recover")
		require.True(t, b.closed)
		require.Len(t, log.with("sse: ended a stream"), 1)
	})
}

// TestEndOfAnIdleStream has a stream that is through with its end before it is
// told how long that may take. Its last write's deadline has long passed then, and
// net/http still has to write the end of the response.
func TestEndOfAnIdleStream(t *testing.T) {
	b := &finishes{scripted: scripted{begin: broadcast.MakeID(2, 1)}}
	h := &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: silent, Options: sse.Options{Heartbeat: -1}}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		s.says("retry: 3000\nid: 2-1\n\n")
		time.Sleep(time.Minute)
		go n.server.Shutdown(t.Context())
		s.ends()
		time.Sleep(time.Minute) // what ended it is through as well
	})
}

// finishes is a Broadcaster whose subscription can finish, and takes its time for
// it.
type finishes struct{ scripted }

func (f *finishes) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	_, err := f.scripted.Subscribe(ctx, o)
	return f, err
}

func (f *finishes) Finish() {
	f.says(look{err: broadcast.ErrClosed})
	time.Sleep(time.Second)
}

// panics is a Broadcaster whose Poll panics, at the last of so many calls.
type panics struct {
	scripted
	left int
}

func (p *panics) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	_, err := p.scripted.Subscribe(ctx, o)
	return p, err
}

func (p *panics) Poll(buf []*broadcast.Message) (int, error) {
	if p.left--; p.left == 0 {
		panic("in Poll")
	}
	return p.scripted.Poll(buf)
}
