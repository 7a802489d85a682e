package sse_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A heartbeat is sent once nothing has been written for Options.Heartbeat.
func TestHeartbeatFollowsSilence(t *testing.T) {
	for _, test := range []struct {
		name, why string
		heartbeat time.Duration
		at        map[time.Duration]string // the topic that something is published on
		until     time.Duration
		want      []string // "beat", "position" or "message", with the time
	}{
		{"silence", "a proxy would cut it", 0, nil, 46 * time.Second,
			[]string{"beat 15s", "beat 30s", "beat 45s"}},
		{"messages", "a heartbeat is sent only after silence", 0,
			map[time.Duration]string{10 * time.Second: "a", 20 * time.Second: "a"}, 51 * time.Second,
			[]string{"message 10s", "message 20s", "beat 35s", "beat 50s"}},
		{"other topics", "the position has moved, and sending it is a heartbeat", 0,
			map[time.Duration]string{20 * time.Second: "other", 21 * time.Second: "other"}, 46 * time.Second,
			[]string{"beat 15s", "position 30s", "beat 45s"}},
		{"other topics all the time", "the position is never older than one heartbeat", 0,
			map[time.Duration]string{1 * time.Second: "other", 16 * time.Second: "other", 31 * time.Second: "other"}, 61 * time.Second,
			[]string{"position 15s", "position 30s", "position 45s", "beat 1m0s"}},
		{"filtered", "bytes count, not messages", 0,
			map[time.Duration]string{10 * time.Second: "filtered"}, 31 * time.Second,
			[]string{"position 15s", "beat 30s"}},
		{"a message after other topics", "its id is the position", 0,
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
				s.expectBegin()
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
					switch sent := s.received(); {
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

// A heartbeat never sends a position while messages before it are pending: a client that is
// cut then would miss them.
func TestPositionFollowsPendingMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Options: sse.Options{Heartbeat: time.Second}}
		begin := position(t, &hub)
		var want string
		got := record(t, h, "/", "", func(w *recorder) {
			unblock := w.block()
			want += tick(publish(t, &hub, "a", "1"), "1")
			synctest.Wait() // it is on its way, and waits
			want += tick(publish(t, &hub, "a", "2"), "2")
			want += tick(publish(t, &hub, "a", "3"), "3")
			last := publish(t, &hub, "other", "4")
			time.Sleep(10500 * time.Millisecond)
			unblock()
			time.Sleep(3500 * time.Millisecond)
			want += "id: " + last + "\n\n:\n:\n"
		})
		require.Equal(t, "retry: 3000\nid: "+begin+"\n\n"+want, got)
	})
}

// With heartbeat=1 each heartbeat is the position, moved or not.
func TestHeartbeatParameterMakesHeartbeatsPositions(t *testing.T) {
	var hub broadcast.Hub
	serve(t, &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent}, func(t *testing.T, n *network) {
		s := n.get("/?heartbeat=1")
		begin := s.expectBegin()
		for range 3 {
			time.Sleep(15 * time.Second)
			synctest.Wait()
			s.expect("id: " + begin + "\n\n")
		}
		s = n.get("/?heartbeat=1&envelope=1")
		s.expect("retry: 3000\nid: " + begin + "\ndata: {\"ready\":\"" + begin + "\",\"heartbeat\":15}\n\n")
		s.expect("id: " + begin + "\ndata: {\"position\":\"" + begin + "\"}\n\n")
	})
}

// A stream begins with the interval of its heartbeats in seconds: in a comment of its first
// block, or in its envelope. The comment comes after the reconnection time and before the
// first event, with no blank line around it. A stream without heartbeats says nothing, and
// neither does one with a Notice, whose client has a protocol of its own.
func TestBeginningSaysTheHeartbeat(t *testing.T) {
	const id, envelope, gap = "id: 1f-29\n\n", "id: 1f-29\ndata: {\"ready\":\"1f-29\"", "event: gap\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\"}\n\n"
	quiet := func(fanfare.Notice) (sse.Event, bool) { return sse.Event{}, false }
	for _, test := range []struct {
		name, target string
		options      sse.Options
		notice       func(fanfare.Notice) (sse.Event, bool)
		results      []pollResult
		want         string
	}{
		{name: "by default", target: "/", want: "retry: 3000\n: heartbeat 15\n" + id},
		{name: "a fraction", target: "/", options: sse.Options{Heartbeat: 2500 * time.Millisecond}, want: "retry: 3000\n: heartbeat 2.5\n" + id},
		{name: "without a reconnection time", target: "/", options: sse.Options{Retry: -1}, want: ": heartbeat 15\n" + id},
		{name: "a gap", target: "/", results: wireGap(nil), want: "retry: 3000\n: heartbeat 15\n" + gap},
		{name: "none", target: "/", options: sse.Options{Heartbeat: -1}, want: "retry: 3000\n" + id},
		{name: "poll", target: "/?poll=1", want: "retry: 3000\n" + id},
		{name: "Notice", target: "/", notice: quiet, want: "retry: 3000\n"},
		{name: "envelope", target: "/?envelope=1", want: "retry: 3000\n" + envelope + ",\"heartbeat\":15}\n\n"},
		{name: "envelope, a fraction", target: "/?envelope=1", options: sse.Options{Heartbeat: 10 * time.Millisecond}, want: "retry: 3000\n" + envelope + ",\"heartbeat\":0.01}\n\n"},
		{name: "envelope, none", target: "/?envelope=1", options: sse.Options{Heartbeat: -1}, want: "retry: 3000\n" + envelope + "}\n\n"},
		{name: "envelope, poll", target: "/?envelope=1&poll=1", want: "retry: 3000\n" + envelope + "}\n\n"},
	} {
		for _, detach := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detached %v", test.name, detach), func(t *testing.T) {
				h := &sse.Handler{Broadcaster: &scripted{begin: wireID(0x29), results: test.results}, Topics: []string{"prices"},
					Options: test.options, Notice: test.notice, Detach: detach, Logger: silent}
				serve(t, h, func(t *testing.T, n *network) {
					r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory"+test.target, nil)
					require.NoError(t, err)
					response, err := n.transport.RoundTrip(r)
					require.NoError(t, err)
					defer response.Body.Close()
					began := make([]byte, 4<<10)
					k, err := response.Body.Read(began)
					require.NoError(t, err)
					require.Equal(t, test.want, nominalRetry(string(began[:k])))
				})
			})
		}
	}
}
