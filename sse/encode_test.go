package sse_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// Encode makes the type and the data of an event; ID and Retry are the handler's.
func TestEncodeOnTheWire(t *testing.T) {
	testWire(t, []wireCase{
		{name: "Encode", why: "the ID and the time to reconnect are the handler's",
			encode: func(m *broadcast.Message) (sse.Event, bool) {
				return sse.Event{ID: "forged", Type: m.Topic, Retry: time.Hour, Data: append([]byte("> "), m.Data...)}, string(m.Data) != "no"
			},
			results: wirePoll(wireMessage(0x2a, "tick", "no"), wireMessage(0x2b, "tick", "x")),
			want:    wireBegin + "event: prices\nid: 1f-2b\ndata: > x\n\n"},
		{name: "Encode without data", why: "a block without data would fire nothing",
			encode:  func(m *broadcast.Message) (sse.Event, bool) { return sse.Event{}, true },
			results: wirePoll(wireMessage(0x2a, "tick", "x")),
			want:    wireBegin + "id: 1f-2a\ndata: \n\n"},
		{name: "Encode of binary", why: "Encode has made text of it",
			encode: func(m *broadcast.Message) (sse.Event, bool) {
				return sse.Event{Data: fmt.Appendf(nil, "%x", m.Data)}, true
			},
			results: wirePoll(broadcast.Message{ID: wireID(0x2a), Topic: "prices", Data: []byte{0xff}, Binary: true}),
			want:    wireBegin + "id: 1f-2a\ndata: ff\n\n"},
		{name: "Encode in an envelope", why: "it makes the data, not the envelope", target: "?envelope=1",
			encode: func(m *broadcast.Message) (sse.Event, bool) {
				return sse.Event{ID: "forged", Type: "shout", Data: []byte("X")}, true
			},
			results: wirePoll(wireMessage(0x2a, "tick", "x")),
			want:    wireBeginEnvelope + "id: 1f-2a\ndata: {\"id\":\"1f-2a\",\"topic\":\"prices\",\"type\":\"shout\",\"data\":\"X\"}\n\n"},
	})
}

// A message that cannot be put on the wire is dropped for all streams and logged once. The
// messages after it arrive.
func TestUnsendableMessageIsDroppedForAll(t *testing.T) {
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
		{"a forged gap", "only the stream itself sends gaps", func() (sse.Event, bool) { return sse.Event{Type: "gap"}, true }, `"gap" is reserved`},
		{"a forged open", "an EventSource fires that itself", func() (sse.Event, bool) { return sse.Event{Type: "open"}, true }, `"open" is reserved`},
		{"a forged error", "an EventSource fires that itself", func() (sse.Event, bool) { return sse.Event{Type: "error"}, true }, `"error" is reserved`},
		{"a forged statechange", "fanfare.js fires that itself", func() (sse.Event, bool) { return sse.Event{Type: "statechange"}, true }, `"statechange" is reserved`},
		{"a forged begin", "it is the stream's", func() (sse.Event, bool) { return sse.Event{Type: "begin"}, true }, `"begin" is reserved`},
		{"a forged ended", "it is the stream's", func() (sse.Event, bool) { return sse.Event{Type: "ended"}, true }, `"ended" is reserved`},
		{"a panic", "all streams would end, reconnect and end again", func() (sse.Event, bool) { panic("in Encode") }, "panic in Handler.Encode: in Encode"},
		{"false", "Encode has dropped it", func() (sse.Event, bool) { return sse.Event{Type: "gap", Data: []byte("\xff")}, false }, ""},
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

// A message is encoded once for each form, however many streams send it.
func TestMessageIsEncodedOnceForAllStreams(t *testing.T) {
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
		require.EqualValues(t, messages, calls.Load(), "streams that begin later send the same bytes")
		open("/?envelope=1&lastEventId=" + before(t, first))
		require.EqualValues(t, 2*messages, calls.Load(), "once more for the other form")
		cancel()
		all.Wait()
	})
}
