package sse_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A refusal is answered with its status. An EventSource would give up on 429 and 5xx, so it
// gets a stream that ends at once and has a random time to reconnect after.
func TestEventSourceSurvivesATemporaryRefusal(t *testing.T) {
	eventSource := []string{"Accept", "text/event-stream", "Cache-Control", "no-cache"}
	for _, test := range []struct {
		name, why  string
		err        error
		header     []string
		status     int    // of the answer
		logged     int    // 0: status
		retryAfter string // the header of an answer with that status
	}{
		{name: "no status", why: "403 is the default", err: &fanfare.Refusal{}, status: 403},
		{name: "401", why: "the client has not authenticated", err: &fanfare.Refusal{Status: 401}, status: 401},
		{name: "404", why: "the room does not exist", err: &fanfare.Refusal{Status: 404}, status: 404},
		{name: "204", why: "an EventSource stops for good", err: &fanfare.Refusal{Status: 204}, status: 204},
		{name: "410", why: "it is final", err: &fanfare.Refusal{Status: 410}, status: 410},
		{name: "429", why: "with the time to wait", err: &fanfare.Refusal{Status: 429, RetryAfter: 90 * time.Second}, status: 429, retryAfter: "90"},
		{name: "429 with a fraction", why: "a second too late rather than too early", err: &fanfare.Refusal{Status: 429, RetryAfter: 1001 * time.Millisecond}, status: 429, retryAfter: "2"},
		{name: "503", why: "without a time to wait", err: &fanfare.Refusal{Status: 503}, status: 503},
		{name: "another error", why: "it is a fault of the server", err: errors.New("secret"), status: 500},
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
		{name: "429 to an EventSource, for a moment", why: "clients do not all reconnect in that moment", err: &fanfare.Refusal{Status: 429, RetryAfter: time.Second}, header: eventSource, status: 200, logged: 429, retryAfter: "1"},
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
			synctest.Test(t, func(t *testing.T) {
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
					assert.Greater(t, longest-shortest, window/2, "clients that were refused together do not reconnect together")
				}
				if test.logged == 0 {
					test.logged = test.status
				}
				require.Equal(t, rounds, log.events("refused a stream"))
				assert.EqualValues(t, test.logged, log.lines[0]["status"], "the status of the refusal, not of the answer")
			})
		})
	}
}

// ErrorHandler alone answers a refused request. The refusal is logged all the same.
func TestErrorHandlerAloneAnswers(t *testing.T) {
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
	assert.Equal(t, http.StatusTeapot, w.Code, "nothing else answers")
	assert.Equal(t, "/pathtrue", w.Body.String())
	assert.Empty(t, w.Header())
	require.Len(t, log.lines, 1)
	assert.EqualValues(t, 429, log.lines[0]["status"])
}

// A handler that lacks a field answers 500, and the log names the field. A closed Broadcaster
// is 503.
func TestHandlerThatCannotStreamSaysWhy(t *testing.T) {
	var hub, closed broadcast.Hub
	require.NoError(t, closed.Close())
	for _, test := range []struct {
		name, why string
		h         *sse.Handler
		status    int
		logged    string
	}{
		{"no Broadcaster", "the field has to be set", &sse.Handler{Topics: []string{"a"}}, 500, "sse: Handler.Broadcaster is nil"},
		{"neither Topics nor Grant", "it would be a stream of nothing", &sse.Handler{Broadcaster: &hub}, 500, "sse: Handler has neither Topics nor Grant"},
		{"empty Topics", "it would be a stream of nothing", &sse.Handler{Broadcaster: &hub, Topics: []string{}}, 500, "neither Topics nor Grant"},
		{"an invalid topic", "Subscribe refuses it", &sse.Handler{Broadcaster: &hub, Topics: []string{"a\n"}}, 500, "the topic"},
		{"an invalid Hub", "Subscribe refuses it", &sse.Handler{Broadcaster: &broadcast.Hub{Keep: -1}, Topics: []string{"a"}}, 500, "Hub.Keep"},
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
			assert.Contains(t, log.lines[0]["reason"], test.logged)
		})
	}
}
