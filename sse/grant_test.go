package sse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A client that gets no Grant is answered with a status and its text. The error's own words
// are logged once. The context of the request ends, so that what Grant has entered is left
// again.
func TestRefusedClientGetsTheStatusAlone(t *testing.T) {
	leaves := func(r *http.Request, left *atomic.Int32) { context.AfterFunc(r.Context(), func() { left.Add(1) }) }
	for _, test := range []struct {
		name, why string
		grant     func(r *http.Request) (*fanfare.Grant, error)
		status    int
		logged    string
	}{
		{"an error", "it is a fault of the server, and its text is not for the client",
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
		{"neither", "nothing has been granted",
			func(*http.Request) (*fanfare.Grant, error) { return nil, nil }, 500, "neither a Grant nor an error"},
		{"no Topics", "it would be a stream of nothing, for good",
			func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{}, nil }, 403, "without Topics"},
		{"an empty topic", "no topic has that name",
			func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: []string{"a", ""}}, nil }, 500, "topic is empty"},
		{"too many topics", "a Hub takes 1,000",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: slices.Repeat([]string{"a"}, 1001)}, nil
			}, 500, "1001 topics"},
		{"Expires in the past", "its token is no longer valid",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(-time.Second)}, nil
			}, 401, "expired already"},
		{"Expires now", "the client would reconnect at once",
			func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now()}, nil
			}, 401, "expired already"},
		{"a panic", "it must not end the process",
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
				assert.EqualValues(t, 1, left.Load(), "the context of the request has ended")
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

// http.ErrAbortHandler goes through to net/http, without an answer and without a log line.
func TestErrAbortHandlerInGrantReachesNetHTTP(t *testing.T) {
	var hub broadcast.Hub
	var left atomic.Int32
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
		context.AfterFunc(r.Context(), func() { left.Add(1) })
		panic(http.ErrAbortHandler)
	}}
	w := httptest.NewRecorder()
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)) },
		"net/http aborts the response")
	require.Empty(t, w.Body.String())
	require.Empty(t, log.lines)
	require.Eventually(t, func() bool { return left.Load() == 1 }, 5*time.Second, time.Millisecond)
}

// A client that leaves while Grant runs is logged at Debug: Error is for faults of the server.
func TestClientThatLeavesInGrantIsNoError(t *testing.T) {
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
		h := &sse.Handler{Broadcaster: h.Broadcaster, Logger: h.Logger, Grant: h.Grant} // logs both at once
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", path, nil))
		assert.Equal(t, 500, w.Code)
	}
	require.Len(t, log.lines, 2)
	for _, line := range log.lines {
		assert.Equal(t, "DEBUG", line["level"])
	}
}

// A Grant without topics but with a Change is a stream that has its position and its
// heartbeats: its client reconnects for topics, or has a WebSocket that can change them.
func TestGrantWithoutTopicsIsAStream(t *testing.T) {
	for _, detach := range []bool{false, true} {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Detach: detach, Grant: func(r *http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: r.URL.Query()["topic"], Change: func([]string) (*fanfare.Grant, error) { return nil, nil }}, nil
		}}
		serve(t, h, func(t *testing.T, n *network) {
			begin := position(t, &hub)
			s := n.get("/?heartbeat=1")
			s.expect("retry: 3000\nid: " + begin + "\n\n")
			if detach {
				time.Sleep(16 * time.Second) // a detached stream's first heartbeats come sooner
				s.received()
			}
			moved := publish(t, &hub, "a", "not for it")
			time.Sleep(15 * time.Second)
			s.expect("id: " + moved + "\n\n")
			hub.Close()
			s.expectEnd()
		})
	}
}
