package sse_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// cutAfter answers with an event stream of text, which is cut.
func cutAfter(text string) write {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// asks makes the request of follow one with another method and a body.
func asks(method string) func(*http.Request) {
	return func(r *http.Request) {
		r.Method = method
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(`{"q":1}`)), nil }
		r.Body, _ = r.GetBody()
		r.ContentLength = 7
	}
}

// After its stream has ended, a request is sent again only if its method is idempotent (RFC
// 9110 section 9.2.2), or the Client's user asks for it.
func TestOnlyIdempotentRequestsAreRepeated(t *testing.T) {
	for _, test := range []struct {
		method    string
		repeat    bool
		requested int
	}{
		{"GET", false, 3}, {"", false, 3}, {"PUT", false, 3}, {"DELETE", false, 3}, {"OPTIONS", false, 3},
		{"POST", false, 1}, {"PATCH", false, 1}, {"QUERY", false, 1}, {"post", false, 1},
		{"POST", true, 3}, {"PATCH", true, 3},
	} {
		for _, cut := range []bool{false, true} {
			name := test.method + " ends"
			answer := streams("data: x\n\n", 0)
			if cut {
				name, answer = test.method+" is cut", cutAfter("data: x\n\n")
			}
			t.Run(name, func(t *testing.T) {
				s := &scenario{answers: []write{answer, answer}}
				got, err := follow(t, &sse.Client{Repeat: test.repeat}, s, asks(test.method))
				require.Len(t, s.requests, test.requested)
				require.Len(t, got, min(2, test.requested))
				if cut && test.requested == 1 {
					require.ErrorIs(t, err, io.ErrUnexpectedEOF, "an answer that is not whole does not look whole")
					return
				}
				require.NoError(t, err)
			})
		}
	}
}

// A request that is not repeated ends with an error where it may have reached the server,
// and with nothing to show for it. It is sent again where it has not, and where Retry wants
// it.
func TestUnansweredRequestIsRepeatedWhereItWasNotSent(t *testing.T) {
	for _, test := range []struct {
		name      string
		client    sse.Client
		answer    write
		requested int
		err       error // any, if it is errAny
	}{
		{"cut before the header", sse.Client{}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1, io.EOF},
		{"silent", sse.Client{Silence: time.Second}, streams("data: x\n\n", time.Minute), 1, errAny},
		{"503, which Retry passes", sse.Client{Retry: (*sse.ResponseError).Temporary}, answers(503), 2, nil},
		{"503", sse.Client{}, answers(503), 1, errAny},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &scenario{answers: []write{test.answer}}
			_, err := follow(t, &test.client, s, asks("POST"))
			require.Len(t, s.requests, test.requested)
			switch test.err {
			case nil:
				require.NoError(t, err)
			case errAny:
				require.Error(t, err)
			default:
				require.ErrorIs(t, err, test.err)
			}
		})
	}
	t.Run("no server", func(t *testing.T) {
		dials := 0
		refused := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		}}
		_, err := follow(t, &sse.Client{HTTPClient: &http.Client{Transport: refused}}, &scenario{}, asks("POST"))
		require.ErrorIs(t, err, context.DeadlineExceeded, "it tries for as long as it may")
		require.Greater(t, dials, 10)
	})
}

var errAny = errors.New("any error")
