package sse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// beginning is a Handler whose clients begin with all that topic a keeps.
func beginning(b broadcast.Broadcaster) *sse.Handler {
	return &sse.Handler{Broadcaster: b, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Beginning: true}, nil
	}}
}

func put(t *testing.T, hub *broadcast.Hub, m broadcast.Message) string {
	t.Helper()
	id, err := hub.Publish(t.Context(), m)
	require.NoError(t, err)
	return id.String()
}

// A beginning is an event with the id 1-0, then blocks without ids, then the position. With
// envelopes its data is that of a WebSocket.
func TestBeginningOnTheWire(t *testing.T) {
	for target, want := range map[string]string{
		"/": "event: begin\nid: 1-0\ndata: {\"begin\":\"1-0\",\"partial\":[\"a\"]}\n\n" +
			"event: tick\ndata: two\n\nevent: tick\ndata: three\n\nevent: set\ndata: 1\n\nid: AT\n\n",
		"/?envelope=1": "id: 1-0\ndata: {\"begin\":\"1-0\",\"partial\":[\"a\"],\"heartbeat\":15}\n\n" +
			"data: {\"topic\":\"a\",\"type\":\"tick\",\"data\":\"two\"}\n\ndata: {\"topic\":\"a\",\"type\":\"tick\",\"data\":\"three\"}\n\n" +
			"data: {\"topic\":\"a\",\"type\":\"set\",\"key\":\"x\",\"data\":\"1\"}\n\nid: AT\ndata: {\"ready\":\"AT\",\"heartbeat\":15}\n\n",
	} {
		for _, lastEventID := range []string{"", "1-0", "2-5"} { // 2-5 is of another log: a loss
			synctest.Test(t, func(t *testing.T) {
				hub := &broadcast.Hub{Keep: 2}
				publish(t, hub, "a", "one")
				put(t, hub, broadcast.Message{Topic: "a", Key: "x", Type: "set", Data: []byte("1")})
				publish(t, hub, "a", "two")
				at := publish(t, hub, "a", "three")
				require.Equal(t, "retry: 3000\n"+strings.ReplaceAll(want, "AT", at), record(t, beginning(hub), target, lastEventID, nil))
			})
		}
	}
}

// A Notice of the user's may leave the beginning out for a client that has nothing. For one that
// resumes it must not.
func TestNoticeLeavesTheBeginningOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &broadcast.Hub{}
		publish(t, hub, "a", "one")
		h := beginning(hub)
		h.Notice = func(fanfare.Notice) (sse.Event, bool) { return sse.Event{}, false }
		require.Equal(t, "retry: 3000\nevent: tick\ndata: one\n\n", record(t, h, "/", "", nil))
		require.Equal(t, "retry: 3000\n", record(t, h, "/", "2-5", nil))
		require.EqualValues(t, 1, h.Stats().Ended["gap not sent"])
	})
}

// When all topics have ended, the response ends with the position. A client that comes back gets
// 204, which stops an EventSource.
func TestEndOnTheWire(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for _, envelopes := range []bool{false, true} {
			hub := &broadcast.Hub{}
			h := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent, Detach: detach}
			serve(t, h, func(t *testing.T, n *network) {
				target := "/"
				if envelopes {
					target = "/?envelope=1"
				}
				s := n.get(target)
				s.received()
				id := put(t, hub, broadcast.Message{Topic: "a", End: true, Data: []byte("bye")})
				if envelopes {
					s.expect("id: " + id + "\ndata: {\"id\":\"" + id + "\",\"topic\":\"a\",\"end\":true,\"data\":\"bye\"}\n\n" +
						"id: " + id + "\ndata: {\"end\":\"" + id + "\"}\n\n")
				} else {
					s.expect("id: " + id + "\ndata: bye\n\n")
				}
				s.expectEnd()
				for _, more := range []string{"", "poll=1", "envelope=1"} {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest("GET", "/?lastEventId="+id+"&"+more, nil))
					require.Equal(t, http.StatusNoContent, w.Code)
					require.Empty(t, w.Body.String())
				}
			})
		}
	}
}

// A Client follows topics to their end, and stops there.
func TestClientStopsAtTheEnd(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, beginning(hub), func(t *testing.T, n *network) {
		put(t, hub, broadcast.Message{Topic: "a", First: true, Data: []byte("whole")})
		time.AfterFunc(time.Second, func() { put(t, hub, broadcast.Message{Topic: "a", End: true, Data: []byte("end")}) })
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory/", nil)
		require.NoError(t, err)
		var got []string
		for e, err := range (&sse.Client{HTTPClient: &http.Client{Transport: n.transport}, Logger: silent}).Events(r) {
			require.NoError(t, err)
			got = append(got, e.Type+" "+string(e.Data))
		}
		require.Equal(t, []string{`begin {"begin":"1-0"}`, " whole", " end"}, got)
	})
}

// tooSlow is a Broadcaster whose clients are too slow for their beginnings.
type tooSlow struct{ scripted }

func (s *tooSlow) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	_, err := s.scripted.Subscribe(ctx, o)
	return s, err
}

func (s *tooSlow) Poll(buf []*broadcast.Message) (int, error) {
	n, err := s.scripted.Poll(buf)
	if n == 0 && err == nil {
		return 0, broadcast.ErrSlow
	}
	return n, err
}

// The stream of a client that is too slow ends with a reconnection time of 5 s or more, and not
// less than the stream's own, for which no event fires.
func TestSlowClientWaits(t *testing.T) {
	for _, detach := range []bool{false, true} {
		testSlowClientWaits(t, detach, -1, 5000)
		testSlowClientWaits(t, detach, 0, 5000)
		testSlowClientWaits(t, detach, 30*time.Second, 30000)
	}
}

func testSlowClientWaits(t *testing.T, detach bool, retry time.Duration, least int) {
	b := &tooSlow{}
	b.returns(pollResult{err: &broadcast.BeginError{}, position: broadcast.MakeID(1, 0)})
	h := beginning(b)
	h.Detach, h.Options.Retry = detach, retry
	serve(t, h, func(t *testing.T, n *network) {
		response, err := (&http.Client{Transport: n.transport}).Get("http://memory/")
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		const begin = "event: begin\nid: 1-0\ndata: {\"begin\":\"1-0\"}\n\n"
		_, last, found := strings.Cut(string(body), begin)
		require.True(t, found)
		require.Regexp(t, `^retry: \d+\n$`, last)
		milliseconds, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(last, "retry: ")))
		require.NoError(t, err)
		require.GreaterOrEqual(t, milliseconds, least)
		require.LessOrEqual(t, milliseconds, 2*least)
		synctest.Wait()
		require.EqualValues(t, 1, h.Stats().Ended["slow"])
	})
}

// Wherever a stream is cut, among the Keys of a round, in a beginning or between them, a client
// that reconnects as a browser does ends up with the newest value of each Key and with every
// event.
func TestMapIsWholeWhereverAStreamIsCut(t *testing.T) {
	for _, begins := range []bool{true, false} {
		t.Run(fmt.Sprint("begins ", begins), func(t *testing.T) {
			run := func(cut int) (size int) {
				synctest.Test(t, func(t *testing.T) {
					hub := &broadcast.Hub{}
					h := &sse.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
						return &fanfare.Grant{Topics: []string{"a", "b"}, Beginning: begins}, nil
					}}
					first := publish(t, hub, "c", "where it resumes")
					want := map[string]string{}
					set := func(key int, value string) {
						m := broadcast.Message{Topic: "a", Key: strconv.Itoa(key), Data: []byte(value), Removed: value == ""}
						put(t, hub, m)
						if want[m.Key] = value; m.Removed {
							delete(want, m.Key)
						}
					}
					events := 0
					say := func() { events++; publish(t, hub, "b", strconv.Itoa(events)) }
					for i := range 24 {
						set(i, "1")
						if i%8 == 0 {
							say()
						}
					}
					page := &mapClient{t: t}
					if !begins {
						page.lastEventID, page.values = first, map[string]string{}
					}
					sent := record(t, h, "/?envelope=1", page.lastEventID, func(w *recorder) {
						set(3, "2")
						set(4, "")
						say()
						set(99, "new")
					})
					size = len(sent)
					page.takes(sent[:min(cut, size)])
					set(5, "")
					set(3, "3")
					say()
					page.takes(record(t, h, "/?envelope=1", page.lastEventID, nil))
					require.Equal(t, want, page.values, "cut after %q", sent[:min(cut, size)])
					require.Len(t, page.events, events)
				})
				return size
			}
			for cut := 0; cut < run(1<<30); cut += 7 {
				run(cut)
			}
		})
	}
}

// mapClient is a page that keeps a map of Keys and a list of events.
type mapClient struct {
	t           *testing.T
	lastEventID string
	values      map[string]string
	events      []string
}

func (c *mapClient) takes(sent string) {
	all, lastEventID := events(c.t, sent)
	for _, e := range all {
		m, begins := parseState(c.t, e.Data)
		switch {
		case begins:
			c.values, c.events = map[string]string{}, nil
		case m == nil:
		case m.Removed:
			delete(c.values, m.Key)
		case m.Key != "":
			c.values[m.Key] = string(m.Data)
		default:
			c.events = append(c.events, string(m.Data))
			require.Equal(c.t, strconv.Itoa(len(c.events)), string(m.Data), "each once and in order")
		}
	}
	if lastEventID != "" {
		c.lastEventID = lastEventID
	}
}

// parseState parses an envelope: a message, or that all topics begin.
func parseState(t *testing.T, data []byte) (m *broadcast.Message, begins bool) {
	t.Helper()
	var e struct {
		Begin, Key, Data string
		Topic            *string
		Removed          bool
	}
	require.NoError(t, json.Unmarshal(data, &e))
	if e.Topic == nil {
		return nil, e.Begin != ""
	}
	return &broadcast.Message{Topic: *e.Topic, Key: e.Key, Data: []byte(e.Data), Removed: e.Removed}, false
}
