package sse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/sse"
)

// scenario is a server with an answer for each request in turn, and then 204.
type scenario struct {
	t        *testing.T
	answers  []func(w http.ResponseWriter, r *http.Request)
	requests []*http.Request
	bodies   []string
	at       []time.Duration // since the beginning
	began    time.Time
}

func (s *scenario) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.requests, s.bodies, s.at = append(s.requests, r), append(s.bodies, string(body)), append(s.at, time.Since(s.began))
	if n := len(s.requests); n <= len(s.answers) {
		s.answers[n-1](w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// streams answers with an event stream of text, which ends after wait.
func streams(text string, wait time.Duration) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(w, text)
		w.(http.Flusher).Flush()
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		}
	}
}

// answers answers with a status and a header of names and values in turn.
func answers(status int, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// follow runs a client against a scenario, in a bubble, until its events end.
func follow(t *testing.T, c *sse.Client, s *scenario, configure func(r *http.Request)) (got []string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.t, s.began = t, time.Now()
		listener := memnet.Listen()
		server := &http.Server{Handler: s}
		go server.Serve(listener)
		defer server.Close()
		transport := &http.Transport{DialContext: listener.DialContext}
		defer transport.CloseIdleConnections()
		if c.HTTPClient == nil {
			c.HTTPClient = &http.Client{Transport: transport}
		}
		c.Logger = silent
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r, e := http.NewRequestWithContext(ctx, "GET", "http://memory/events", nil)
		require.NoError(t, e)
		if configure != nil {
			configure(r)
		}
		for e, failed := range c.Events(r) {
			if err = failed; err == nil {
				got = append(got, strings.TrimSpace(e.ID+" "+e.Type+" "+string(e.Data)))
			}
		}
	})
	return got, err
}

type write = func(http.ResponseWriter, *http.Request)

// A Client resumes after the last event ID, which holds across connections, and waits for as
// long as the server asked. 204 ends its events.
func TestClientResumesAfterTheLastEventID(t *testing.T) {
	s := &scenario{answers: []write{
		streams("retry: 2000\nid: 1\ndata: one\n\nevent: tick\ndata: without an ID\n\nid: 2\n\ndata: half", 30*time.Second),
		streams("data: two\n\nid: 3\ndata: three\n\nid\ndata: reset\n\n", 0),
		streams("data: four\n\n", 0),
	}}
	got, err := follow(t, &sse.Client{}, s, nil)
	require.NoError(t, err, "204 is the end")
	require.Equal(t, []string{"1  one", "1 tick without an ID", "2  two", "3  three", "reset", "four"}, got, "the last event ID holds across connections")
	var ids []string
	for _, r := range s.requests {
		require.Equal(t, "text/event-stream", r.Header.Get("Accept"))
		ids = append(ids, r.Header.Get("Last-Event-ID"))
	}
	require.Equal(t, []string{"", "2", "", ""}, ids)
	require.GreaterOrEqual(t, s.at[1], 32*time.Second, "it waits for as long as the server asked")
	require.LessOrEqual(t, s.at[1], 32500*time.Millisecond)
}

// A Client that cannot work yields an error that names the field, and makes no request.
func TestClientNamesTheFieldThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		client sse.Client
		want   string
	}{
		{sse.Client{HTTPClient: &http.Client{Timeout: time.Second}}, "sse: Client.HTTPClient.Timeout is 1s"},
		{sse.Client{MaxBackoff: -time.Second}, "sse: Client.MaxBackoff is -1s: set it to 0 for 30s"},
		{sse.Client{MaxEvent: -1}, "sse: Client.MaxEvent is -1: set it to 0 for 1048576"},
	} {
		s := &scenario{answers: []write{streams("data: x\n\n", 0)}}
		got, err := follow(t, &test.client, s, nil)
		require.ErrorContains(t, err, test.want)
		require.Empty(t, got)
		require.Empty(t, s.requests)
	}
}

// A Last-Event-ID header of the request is where the events begin.
func TestClientBeginsAtTheLastEventIDOfItsRequest(t *testing.T) {
	s := &scenario{answers: []write{streams("data: x\n\n", 0)}}
	got, err := follow(t, &sse.Client{}, s, func(r *http.Request) { r.Header.Set("Last-Event-ID", "7") })
	require.NoError(t, err)
	require.Equal(t, []string{"7  x"}, got)
	require.Equal(t, "7", s.requests[0].Header.Get("Last-Event-ID"))
	require.Equal(t, "7", s.requests[1].Header.Get("Last-Event-ID"))
}

// A body is sent with each request, and needs GetBody.
func TestClientSendsTheBodyWithEachRequest(t *testing.T) {
	s := &scenario{answers: []write{streams("id: 1\ndata: x\n\n", 0), answers(204)}}
	_, err := follow(t, &sse.Client{Repeat: true}, s, func(r *http.Request) {
		post, _ := http.NewRequest("POST", "http://memory/", strings.NewReader(`{"q":1}`))
		r.Method, r.Body, r.GetBody, r.ContentLength = post.Method, post.Body, post.GetBody, post.ContentLength
	})
	require.NoError(t, err)
	require.Equal(t, []string{`{"q":1}`, `{"q":1}`}, s.bodies)
	require.Equal(t, "POST", s.requests[1].Method)

	_, err = follow(t, &sse.Client{}, &scenario{}, func(r *http.Request) { r.Method, r.Body = "POST", io.NopCloser(strings.NewReader("x")) })
	require.ErrorContains(t, err, "GetBody")
}

// An answer that is no event stream ends the events with a ResponseError, unless Retry wants
// another attempt. A connection that fails is tried again.
func TestOnlyRetryLetsAClientPassABadAnswer(t *testing.T) {
	temporary := func(e *sse.ResponseError) bool { return e.Temporary() }
	for _, test := range []struct {
		name   string
		answer write
		retry  func(*sse.ResponseError) bool
		status int // of the error that ends it; 0: it goes on
	}{
		{"a page", answers(200, "Content-Type", "text/html"), nil, 200},
		{"no type", func(w http.ResponseWriter, r *http.Request) { w.Header()["Content-Type"] = nil; w.WriteHeader(200) }, temporary, 200},
		{"a page, but it may become a stream", answers(200, "Content-Type", "text/html"), func(*sse.ResponseError) bool { return true }, 0},
		{"401", answers(401), temporary, 401},
		{"404", answers(404), temporary, 404},
		{"a server's fault, by the standard", answers(500), nil, 500},
		{"a server's fault", answers(500), temporary, 0},
		{"a proxy's", answers(502), temporary, 0},
		{"too many", answers(429, "Retry-After", "20"), temporary, 0},
		{"a redirect", answers(307, "Location", "/elsewhere"), nil, 0},
		{"a redirect to nowhere", answers(302), nil, 302},
		{"a cut before the header", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, 0},
		{"a cut in an event", func(w http.ResponseWriter, r *http.Request) {
			streams("data: ha", 0)(w, r)
			panic(http.ErrAbortHandler)
		}, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &scenario{answers: []write{test.answer, streams("data: good\n\n", 0)}}
			got, err := follow(t, &sse.Client{Retry: test.retry}, s, nil)
			if test.status == 0 {
				require.NoError(t, err)
				require.Equal(t, []string{"good"}, got)
				return
			}
			var refused *sse.ResponseError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.status, refused.Status)
			require.Len(t, s.requests, 1)
			require.NotEmpty(t, refused.Error())
		})
	}
	s := &scenario{answers: []write{answers(503, "Retry-After", "20"), answers(503)}}
	_, err := follow(t, &sse.Client{Retry: temporary}, s, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, s.at[1], 20*time.Second)
	require.LessOrEqual(t, s.at[2]-s.at[1], 2*time.Second)
}

// The wait doubles up to MaxBackoff, and begins anew after an event.
func TestClientBacksOffUntilAnEventArrives(t *testing.T) {
	s := &scenario{}
	for range 30 {
		s.answers = append(s.answers, answers(503))
	}
	s.answers = append(s.answers, streams("id: 1\ndata: x\n\n", 0), streams("id: 2\ndata: x\n\n", 0))
	_, err := follow(t, &sse.Client{MaxBackoff: 8 * time.Second, Retry: func(*sse.ResponseError) bool { return true }}, s, nil)
	require.NoError(t, err)
	var most time.Duration
	for i := 1; i <= 30; i++ {
		wait := s.at[i] - s.at[i-1]
		require.LessOrEqual(t, wait, 500*time.Millisecond<<min(i-1, 4))
		most = max(most, wait)
	}
	require.Greater(t, most, 4*time.Second)
	require.LessOrEqual(t, s.at[31]-s.at[30], 500*time.Millisecond, "an event resets the backoff")
}

// An event that exceeds MaxEvent ends the events: it would be as large the next time.
func TestEventBeyondMaxEventEndsAClient(t *testing.T) {
	big := "data: " + strings.Repeat("x", 2<<20) + "\n\n"
	s := &scenario{answers: []write{streams(big, 0)}}
	_, err := follow(t, &sse.Client{}, s, nil)
	require.ErrorIs(t, err, sse.ErrTooLarge, "it would be as large the next time")
	require.ErrorContains(t, err, "raise Client.MaxEvent")
	require.Len(t, s.requests, 1)
	got, err := follow(t, &sse.Client{MaxEvent: 4 << 20}, &scenario{answers: []write{streams(big, 0)}}, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Len(t, got[0], 2<<20)
}

// An event ID is sent back byte for byte. One that no header can carry ends the events.
func TestEventIDIsSentBackAsItCame(t *testing.T) {
	odd := "ü \" %0A \t\\;,"
	s := &scenario{answers: []write{streams("id: "+odd+"\ndata: x\n\n", 0)}}
	_, err := follow(t, &sse.Client{}, s, nil)
	require.NoError(t, err)
	require.Equal(t, odd, s.requests[1].Header.Get("Last-Event-ID"))
	_, err = follow(t, &sse.Client{}, &scenario{answers: []write{streams("id: \x01\ndata: x\n\n", 0)}}, nil)
	require.ErrorContains(t, err, "cannot be sent in a header")
}

// A connection on which nothing arrives for Silence is replaced. Heartbeats count as life, and
// a negative Silence waits for ever.
func TestSilentConnectionIsReplaced(t *testing.T) {
	beats := func(w http.ResponseWriter, r *http.Request) {
		streams("id: 1\ndata: x\n\n", 0)(w, r)
		for range 10 {
			time.Sleep(40 * time.Second)
			_, _ = io.WriteString(w, ":\n")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}
	s := &scenario{answers: []write{beats, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}}
	got, err := follow(t, &sse.Client{}, s, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"1  x"}, got)
	require.InDelta(t, (400+45)*time.Second, s.at[1], float64(time.Second), "heartbeats count as life")
	require.InDelta(t, 45*time.Second, s.at[2]-s.at[1], float64(time.Second), "an answer that does not arrive is silence, too")

	s = &scenario{answers: []write{streams("data: x\n\n", 10*time.Minute)}}
	_, err = follow(t, &sse.Client{Silence: -1}, s, nil)
	require.NoError(t, err)
	require.Greater(t, s.at[1], 10*time.Minute)
}

// The events end with the loop, or with the context, whose cause is yielded last.
func TestClientEndsWithTheLoopOrTheContext(t *testing.T) {
	why := errors.New("why")
	synctest.Test(t, func(t *testing.T) {
		listener := memnet.Listen()
		server := &http.Server{Handler: http.HandlerFunc(streams("data: 1\n\ndata: 2\n\n", time.Hour))}
		go server.Serve(listener)
		defer server.Close()
		transport := &http.Transport{DialContext: listener.DialContext}
		defer transport.CloseIdleConnections()
		c := &sse.Client{HTTPClient: &http.Client{Transport: transport}, Logger: silent}
		ctx, cancel := context.WithCancelCause(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", "http://memory/", nil)
		require.NoError(t, err)
		for e := range c.Events(r) {
			require.Equal(t, "1", string(e.Data))
			break
		}
		time.AfterFunc(30*time.Second, func() { cancel(why) })
		n := 0
		for _, err = range c.Events(r) {
			n++
		}
		require.ErrorIs(t, err, why)
		require.Equal(t, 3, n)
		synctest.Wait()
	})
}

// Over a network that cuts, a Client of a Handler gets each message once and in order.
func TestClientGetsEachMessageOnceOverACutNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 300
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Filter: func(m *broadcast.Message) bool { return m.ID.Seq()%3 > 0 }}, nil
		}, Logger: silent}
		var open atomic.Pointer[net.Conn]
		listener := memnet.Listen()
		server := &http.Server{Handler: h}
		go server.Serve(listener)
		transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := listener.DialContext(ctx, network, address)
			open.Store(&c)
			return c, err
		}}
		defer transport.CloseIdleConnections()
		c := &sse.Client{HTTPClient: &http.Client{Transport: transport}, Logger: silent}
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory/", nil)
		require.NoError(t, err)
		r.Header.Set("Last-Event-ID", position(t, &hub))
		var publishing sync.WaitGroup
		defer publishing.Wait()
		publishing.Go(func() {
			for i := range messages {
				publish(t, &hub, "a", fmt.Sprint(i))
				time.Sleep(50 * time.Millisecond)
				if i%20 == 10 {
					(*open.Load()).Close()
				}
			}
		})
		want := 0
		for e, err := range c.Events(r) {
			require.NoError(t, err)
			if want%3 == 2 {
				want++ // left out by the Filter: the sequences begin with 1
			}
			require.Equal(t, fmt.Sprint(want), string(e.Data))
			if want++; want == messages-1 {
				break
			}
		}
		server.Close()
	})
}

func ExampleClient() {
	var hub broadcast.Hub
	server := httptest.NewServer(&sse.Handler{Broadcaster: &hub, Topics: []string{"prices"}})
	defer server.Close()
	defer hub.Close()

	position, _ := hub.Position(context.Background())
	hub.Publish(context.Background(), broadcast.Message{Topic: "prices", Type: "tick", Data: []byte("42")})

	var client sse.Client
	request, _ := http.NewRequest("GET", server.URL, nil)
	request.Header.Set("Last-Event-ID", position.String()) // from before the message
	for event, err := range client.Events(request) {
		if err != nil {
			panic(err)
		}
		fmt.Println(event.Type, string(event.Data))
		break // or go on: it reconnects, and misses nothing
	}
	// Output:
	// tick 42
}
