package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

func TestMain(m *testing.M) { leak.Main(m) }

func ask(question string) *http.Request {
	body, _ := json.Marshal(map[string]string{"question": question})
	return httptest.NewRequest("POST", "/answer", strings.NewReader(string(body)))
}

// whole reads an answer to its end, and returns the type of the last event.
func whole(t *testing.T, s *ssetest.Stream) (text, end string) {
	t.Helper()
	for e := range s.All() {
		if end = e.Type; end == "token" {
			var token string
			require.NoError(t, json.Unmarshal(e.Data, &token))
			text += token
		}
	}
	return text, end
}

func TestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(local{pause: 40 * time.Millisecond})
		text, end := whole(t, ssetest.Connect(t, tokens, ask("What is a fanfare?")))
		require.Equal(t, "done", end)
		require.GreaterOrEqual(t, strings.Count(text, ". "), 3, text)
		again, _ := whole(t, ssetest.Connect(t, tokens, ask("What is a fanfare?")))
		require.Equal(t, text, again, "the same question")
		other, _ := whole(t, ssetest.Connect(t, tokens, ask("What is a stream?")))
		require.NotEqual(t, text, other)
	})
}

// counted is a Source that never comes to an end.
type counted struct{ given, stopped atomic.Int32 }

func (c *counted) Tokens(ctx context.Context, _ string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				c.stopped.Add(1)
				yield("", context.Cause(ctx))
				return
			}
			if c.given.Add(1); !yield("more ", nil) {
				c.stopped.Add(1)
				return
			}
		}
	}
}

func TestWhoeverStopsStopsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := new(counted)
		s := ssetest.Connect(t, newTokens(source), ask("How long?"))
		for range 10 {
			require.Equal(t, "token", s.Next().Type)
		}
		s.Close()
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, source.given.Load(), int32(11))
		require.EqualValues(t, 1, source.stopped.Load())
	})
}

type failing struct{}

func (failing) Tokens(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		_ = yield("It ", nil) && yield("", errors.New("the model is out of paper"))
	}
}

func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, end := whole(t, ssetest.Connect(t, newTokens(failing{}), ask("What is it?")))
		require.Equal(t, "It ", text)
		require.Equal(t, "failed", end)
	})
}

func TestBadQuestions(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "hello", "no question": "{}", "an empty one": `{"question":"  "}`,
		"too long": `{"question":"` + strings.Repeat("x", 17<<10) + `"}`,
	} {
		w := httptest.NewRecorder()
		newTokens(failing{}).ServeHTTP(w, httptest.NewRequest("POST", "/answer", io.NopCloser(strings.NewReader(body))))
		require.Equal(t, http.StatusBadRequest, w.Code, name)
		require.NotEmpty(t, w.Body.String(), name)
	}
}
