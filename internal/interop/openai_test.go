package interop_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go"
	openaioption "github.com/openai/openai-go/option"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// delta is a chunk of a completion, as OpenAI's API streams it.
func delta(text string) map[string]any {
	return map[string]any{
		"id": "1", "object": "chat.completion.chunk", "model": "m",
		"choices": []any{map[string]any{"index": 0, "delta": map[string]any{"content": text}}},
	}
}

// beats counts the heartbeats that a client has read.
type beats struct {
	mu    sync.Mutex
	count int
	more  sync.Cond
}

func newBeats() *beats {
	b := new(beats)
	b.more.L = &b.mu
	return b
}

// wait returns when so many more have come.
func (b *beats) wait(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n += b.count; b.count < n; {
		b.more.Wait()
	}
}

// beating is the body of a response whose heartbeats are counted.
type beating struct {
	io.ReadCloser
	beats *beats
	line  []byte
}

func (b *beating) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.beats.mu.Lock()
	defer b.beats.mu.Unlock()
	for _, c := range p[:n] {
		if c != '\n' {
			b.line = append(b.line, c)
			continue
		}
		if string(b.line) == ":" {
			b.beats.count++
			b.beats.more.Broadcast()
		}
		b.line = b.line[:0]
	}
	return n, err
}

// RoundTrip makes beats the transport of a client.
func (b *beats) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		response.Body = &beating{ReadCloser: response.Body, beats: b}
	}
	return response, err
}

// complete reads a completion with OpenAI's client.
func complete(t *testing.T, h http.Handler, b *beats) (text string, err error) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	transport := &http.Client{Transport: b}
	client := openai.NewClient(openaioption.WithBaseURL(server.URL), openaioption.WithAPIKey("key"), openaioption.WithHTTPClient(transport), openaioption.WithMaxRetries(0))
	stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
		Model:    "m",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")},
	})
	defer stream.Close()
	for stream.Next() {
		text += stream.Current().Choices[0].Delta.Content
	}
	return text, stream.Err()
}

// OpenAI's Go client, which fails on a blank line before the first event, reads a Writer's
// stream: with heartbeats, with comments, and with the line for the time to reconnect after.
func TestOpenAIClientReadsAWriter(t *testing.T) {
	for name, o := range map[string]*sse.Options{
		"the defaults": nil,
		"no retry":     {Retry: -1},
		"heartbeats":   {Heartbeat: 2 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBeats()
			some := func() {
				if name == "heartbeats" {
					b.wait(2)
				}
			}
			text, err := complete(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, o)
				if !assert.NoError(t, err) {
					return
				}
				defer s.Close()
				some()
				assert.NoError(t, s.Comment("thinking\nhard"))
				for _, token := range []string{"to ", "be ", "or not"} {
					assert.NoError(t, s.SendJSON("", delta(token)))
					some()
				}
				assert.NoError(t, s.Send(sse.Event{Data: []byte("[DONE]")}))
			}), b)
			require.NoError(t, err)
			require.Equal(t, "to be or not", text)
		})
	}
	t.Run("an abort is an error", func(t *testing.T) {
		text, err := complete(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if !assert.NoError(t, err) {
				return
			}
			assert.NoError(t, s.SendJSON("", delta("to be")))
			assert.NoError(t, s.Abort())
		}), newBeats())
		require.Error(t, err)
		require.Equal(t, "to be", text)
	})
}

// It reads a Handler's stream whose Notice leaves out what the stream would begin with.
func TestOpenAIClientReadsAHandlerWithoutNotices(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for _, retry := range []time.Duration{0, -1} {
			var hub broadcast.Hub
			h := &sse.Handler{
				Broadcaster: &hub, Topics: []string{"a"}, Detach: detach, Logger: silent,
				Options: sse.Options{Retry: retry, Heartbeat: 2 * time.Millisecond},
				Notice:  func(fanfare.Notice) (sse.Event, bool) { return sse.Event{}, false },
			}
			b := newBeats()
			go func() {
				for _, data := range []string{`{"choices":[{"delta":{"content":"to "}}]}`, `{"choices":[{"delta":{"content":"be"}}]}`, "[DONE]"} {
					b.wait(1)
					_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: []byte(data)})
					assert.NoError(t, err)
				}
				hub.Close()
			}()
			text, err := complete(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				// This client always sends a POST, and accepts JSON.
				_, _ = io.Copy(io.Discard, r.Body)
				get := r.Clone(r.Context())
				get.Method, get.Body, get.ContentLength = http.MethodGet, http.NoBody, 0
				get.Header.Del("Accept")
				h.ServeHTTP(w, get)
			}), b)
			require.NoError(t, err)
			require.Equal(t, "to be", text)
		}
	}
}
