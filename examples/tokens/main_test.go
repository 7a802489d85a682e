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

// whole reads an answer to its end, and returns its text and the type of the last event.
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

func TestAnswersDependOnTheQuestionOnly(t *testing.T) {
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

// endless is a Source whose answers do not end. It counts its tokens and stops.
type endless struct{ tokens, stopped atomic.Int32 }

func (s *endless) Tokens(ctx context.Context, _ string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				s.stopped.Add(1)
				yield("", context.Cause(ctx))
				return
			}
			if s.tokens.Add(1); !yield("more ", nil) {
				s.stopped.Add(1)
				return
			}
		}
	}
}

func TestAClientThatLeavesStopsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := new(endless)
		s := ssetest.Connect(t, newTokens(source), ask("How long?"))
		for range 10 {
			require.Equal(t, "token", s.Next().Type)
		}
		s.Close()
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, source.tokens.Load(), int32(11))
		require.EqualValues(t, 1, source.stopped.Load())
	})
}

type failing struct{}

func (failing) Tokens(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		_ = yield("It ", nil) && yield("", errors.New("the model is out of paper"))
	}
}

func TestAFailureIsTheLastEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, end := whole(t, ssetest.Connect(t, newTokens(failing{}), ask("What is it?")))
		require.Equal(t, "It ", text)
		require.Equal(t, "failed", end)
	})
}

// bytewise is a Source whose tokens are single bytes.
type bytewise string

func (s bytewise) Tokens(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range len(s) {
			if !yield(string(s[i:i+1]), nil) {
				return
			}
		}
	}
}

func TestRunesThatTheSourceCutsAreWhole(t *testing.T) {
	for answer, want := range map[string]string{"Für 5 € 😀": "Für 5 € 😀", "cut \xe2\x82": "cut "} {
		synctest.Test(t, func(t *testing.T) {
			text, end := whole(t, ssetest.Connect(t, newTokens(bytewise(answer)), ask("What is it?")))
			require.Equal(t, want, text)
			require.Equal(t, "done", end)
		})
	}
}

func TestInvalidQuestionsAreRefused(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": "", "not JSON": "hello", "no question": "{}", "an empty one": `{"question":"  "}`,
		"too long": `{"question":"` + strings.Repeat("x", 17<<10) + `"}`,
	} {
		w := httptest.NewRecorder()
		newTokens(failing{}).ServeHTTP(w, httptest.NewRequest("POST", "/answer", io.NopCloser(strings.NewReader(body))))
		require.Equal(t, http.StatusBadRequest, w.Code, name)
		require.NotEmpty(t, w.Body.String(), name)
	}
}
