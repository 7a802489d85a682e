package interop_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	eventsource "github.com/launchdarkly/eventsource"
	r3labs "github.com/r3labs/sse/v2"
	"github.com/stretchr/testify/require"
	tmaxmax "github.com/tmaxmax/go-sse"
	"gopkg.in/cenkalti/backoff.v1"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
)

// event is an event as a client hands it to its user.
type event struct{ id, typ, data string }

// eventClients are clients of other projects. subscribe sends each event to got until the
// context ends, and returns when the client has ended.
var eventClients = []struct {
	name      string
	subscribe func(ctx context.Context, url, lastEventID string, got chan<- event)

	positions string // why it fires an event for a block that only moves the position
	stops     string // why it reconnects after a cut, but not after the end of the stream
	mayStop   string // why it sometimes does the same
}{
	{
		name: "r3labs", subscribe: subscribeR3labs,
		positions: "it fires for blocks without data, which WHATWG HTML 9.2.6 drops",
		stops:     "it stops after the end of a response, where WHATWG HTML 9.2.3 has a client reconnect",
	},
	{
		name: "tmaxmax", subscribe: subscribeTmaxmax,
		positions: "it fires for blocks without data, which WHATWG HTML 9.2.6 drops",
		mayStop:   "v0.12 takes an end that it reads without an error for that of its context, since errors.Is(nil, nil) is true",
	},
	{
		name: "launchdarkly", subscribe: subscribeLaunchDarkly,
		positions: "it fires for blocks without data, which WHATWG HTML 9.2.6 drops",
	},
}

// soon is how long clients wait before they reconnect, if the server does not decide.
const soon = 10 * time.Millisecond

// ownTransport returns a client with connections of its own, and a function that closes them.
func ownTransport() (*http.Client, func()) {
	transport := &http.Transport{}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

func subscribeR3labs(ctx context.Context, url, lastEventID string, got chan<- event) {
	client := r3labs.NewClient(url)
	var done func()
	client.Connection, done = ownTransport()
	defer done()
	client.ReconnectStrategy = backoff.WithContext(backoff.NewConstantBackOff(soon), ctx)
	if lastEventID != "" {
		client.LastEventID.Store([]byte(lastEventID))
	}
	_ = client.SubscribeRawWithContext(ctx, func(e *r3labs.Event) {
		got <- event{string(e.ID), string(e.Event), string(e.Data)}
	})
}

func subscribeTmaxmax(ctx context.Context, url, lastEventID string, got chan<- event) {
	http1, done := ownTransport()
	defer done()
	client := tmaxmax.Client{HTTPClient: http1, Backoff: tmaxmax.Backoff{InitialInterval: soon}}
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	conn := client.NewConnection(r)
	conn.SubscribeToAll(func(e tmaxmax.Event) { got <- event{e.LastEventID, e.Type, e.Data} })
	_ = conn.Connect()
}

func subscribeLaunchDarkly(ctx context.Context, url, lastEventID string, got chan<- event) {
	client, done := ownTransport()
	defer done()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	stream, err := eventsource.SubscribeWithRequestAndOptions(r,
		eventsource.StreamOptionHTTPClient(client),
		eventsource.StreamOptionInitialRetry(soon),
		eventsource.StreamOptionLastEventID(lastEventID),
		eventsource.StreamOptionErrorHandler(func(error) eventsource.StreamErrorHandlerResult {
			return eventsource.StreamErrorHandlerResult{CloseNow: ctx.Err() != nil}
		}))
	if err != nil {
		return
	}
	for e := range stream.Events {
		got <- event{e.(eventsource.EventWithLastID).LastEventID(), e.Event(), e.Data()}
	}
}

// eventStage is a hub and an sse.Handler, with a relay in front.
type eventStage struct {
	*stage
	events   *sse.Handler
	sessions *middleware.Sessions
	got      chan event
	ended    <-chan struct{} // closed when the client has ended
}

func newEventStage(t *testing.T, detach bool) *eventStage {
	s := &eventStage{
		stage:    newStage(t, false),
		sessions: &middleware.Sessions{Key: func(*http.Request) string { return "everybody" }, Logger: silent},
		got:      make(chan event, 100),
	}
	s.events = &sse.Handler{
		Broadcaster: s.hub, Topics: []string{"prices"}, Detach: detach, Logger: silent,
		Options: sse.Options{Retry: soon, Heartbeat: 20 * time.Millisecond},
	}
	s.wire = through(t, s.sessions.Handler(s.events))
	t.Cleanup(func() { s.hub.Close() })
	return s
}

// subscribe starts a client, which ends with the test.
func (s *eventStage) subscribe(by func(ctx context.Context, url, lastEventID string, got chan<- event), lastEventID string) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s.ended = ended
	var running sync.WaitGroup
	running.Go(func() {
		defer close(ended)
		by(ctx, s.url, lastEventID, s.got)
	})
	s.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// subscribed waits until the client is subscribed.
func (s *eventStage) subscribed() {
	s.t.Helper()
	eventually(s.t, func() bool { return s.hub.Stats().Subscriptions == 1 }, "it is not subscribed")
}

// hasEnded reports whether the client has ended.
func (s *eventStage) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// again waits for the second request, and returns its Last-Event-ID.
func (s *eventStage) again() string {
	s.t.Helper()
	eventually(s.t, func() bool { return len(s.resumed()) > 1 }, "it does not come back")
	return s.resumed()[1]
}

// Event stream clients of other projects read our streams, and resume after a cut.
func TestEventStreamClients(t *testing.T) {
	for _, client := range eventClients {
		// fired returns the next event that a client fires that follows the standard.
		fired := func(t *testing.T, s *eventStage) event {
			t.Helper()
			for {
				e := next(t, s.got)
				if client.positions == "" || e.typ != "" || e.data != "" {
					return e
				}
			}
		}
		cases := []struct {
			name string
			run  func(t *testing.T, s *eventStage)
		}{
			{"receive", func(t *testing.T, s *eventStage) {
				s.subscribe(client.subscribe, "")
				s.subscribed()
				for _, m := range []broadcast.Message{
					tick(`{"usd":42}`),
					tick("two\nlines"),
					tick("ä: 1"),
					{Topic: "prices", Data: []byte("no type")},
				} {
					id := s.publish(m)
					require.Equal(t, event{id.String(), m.Type, string(m.Data)}, fired(t, s))
				}
				id := s.publish(broadcast.Message{Topic: "prices", Type: "raw", Data: []byte("\x00\xff"), Binary: true})
				require.Equal(t, event{id.String(), "raw;base64", "AP8="}, fired(t, s))
			}},
			{"heartbeats fire no event", func(t *testing.T, s *eventStage) {
				s.subscribe(client.subscribe, "")
				// A comment of one line is a chunk of 2 bytes.
				eventually(t, func() bool { return s.sent("2\r\n:\n\r\n") >= 3 }, "no heartbeats")
				id := s.publish(tick("alive"))
				require.Equal(t, event{id.String(), "tick", "alive"}, fired(t, s))
				require.Len(t, s.resumed(), 1, "the client has not reconnected")
			}},
			{"resumes after a cut", func(t *testing.T, s *eventStage) {
				s.subscribe(client.subscribe, "")
				s.subscribed()
				seen := s.publish(tick("seen"))
				require.Equal(t, "seen", fired(t, s).data)
				s.cut()
				for i := range 3 {
					id := s.publish(tick(fmt.Sprint("missed ", i)))
					require.Equal(t, event{id.String(), "tick", fmt.Sprint("missed ", i)}, fired(t, s))
				}
				require.Equal(t, seen.String(), s.again())
			}},
			{"resumes after a cut before the first event", func(t *testing.T, s *eventStage) {
				begin := s.publish(tick("before"))
				s.subscribe(client.subscribe, "")
				eventually(t, func() bool { return s.sent("id: "+begin.String()+"\n") == 1 }, "no position")
				if client.positions != "" {
					require.Equal(t, event{id: begin.String()}, next(t, s.got)) // it has read the position
				}
				s.cut()
				id := s.publish(tick("missed"))
				require.Equal(t, event{id.String(), "tick", "missed"}, fired(t, s))
				require.Equal(t, begin.String(), s.again())
			}},
			{"resumes after the end", func(t *testing.T, s *eventStage) {
				s.subscribe(client.subscribe, "")
				s.subscribed()
				seen := s.publish(tick("seen"))
				require.Equal(t, "seen", fired(t, s).data)
				require.Equal(t, 1, s.sessions.Disconnect("everybody", 0, ""))
				if client.stops != "" {
					select {
					case <-s.ended:
						require.Len(t, s.resumed(), 1, client.stops)
						return
					case <-time.After(patience):
						require.FailNow(t, "it reconnects: it is no exception any more")
					}
				}
				if client.mayStop != "" {
					eventually(t, func() bool { return len(s.resumed()) > 1 || s.hasEnded() }, "it neither comes back nor ends")
					if len(s.resumed()) == 1 {
						return
					}
				}
				require.Equal(t, seen.String(), s.again())
				id := s.publish(tick("missed"))
				require.Equal(t, event{id.String(), "tick", "missed"}, fired(t, s))
			}},
			{"resumes after an end by a cut", func(t *testing.T, s *eventStage) {
				s.events.Abort = true
				s.subscribe(client.subscribe, "")
				s.subscribed()
				seen := s.publish(tick("seen"))
				require.Equal(t, "seen", fired(t, s).data)
				require.Equal(t, 1, s.sessions.Disconnect("everybody", 0, ""))
				require.Equal(t, seen.String(), s.again())
				id := s.publish(tick("missed"))
				require.Equal(t, event{id.String(), "tick", "missed"}, fired(t, s))
			}},
			{"resumed by its user", func(t *testing.T, s *eventStage) {
				seen := s.publish(tick("seen"))
				missed := s.publish(tick("missed"))
				s.subscribe(client.subscribe, seen.String())
				require.Equal(t, event{missed.String(), "tick", "missed"}, fired(t, s))
				require.Equal(t, []string{seen.String()}, s.resumed())
			}},
			{"a gap", func(t *testing.T, s *eventStage) {
				s.subscribe(client.subscribe, "1f-29") // of another epoch
				gap := fired(t, s)
				require.Equal(t, "gap", gap.typ)
				require.Equal(t, fmt.Sprintf(`{"gap":%q}`, gap.id), gap.data)
				require.Equal(t, s.position().String(), gap.id)
				id := s.publish(tick("after"))
				require.Equal(t, event{id.String(), "tick", "after"}, fired(t, s))
			}},
		}
		for _, c := range cases {
			for detach, way := range detached {
				t.Run(client.name+"/"+c.name+"/"+way, func(t *testing.T) {
					t.Parallel()
					c.run(t, newEventStage(t, detach))
				})
			}
		}
	}
}
