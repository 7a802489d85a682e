package interop_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	openai1 "github.com/openai/openai-go"
	openai1option "github.com/openai/openai-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// completer is a Go client of an API that streams the text it generates.
type completer struct {
	name  string
	read  func(ctx context.Context, url string, client *http.Client) (text string, err error)
	delta func(text string) sse.Event // as its API streams a piece
	end   sse.Event
}

var completers = []completer{
	{
		name: "openai-go v1",
		read: func(ctx context.Context, url string, client *http.Client) (text string, err error) {
			c := openai1.NewClient(openai1option.WithBaseURL(url), openai1option.WithAPIKey("key"), openai1option.WithHTTPClient(client), openai1option.WithMaxRetries(0))
			params := openai1.ChatCompletionNewParams{Model: "m", Messages: []openai1.ChatCompletionMessageParamUnion{openai1.UserMessage("hello")}}
			err = eachEvent(c.Chat.Completions.NewStreaming(ctx, params), func(chunk openai1.ChatCompletionChunk) {
				text += chunk.Choices[0].Delta.Content
			})
			return text, err
		},
		delta: chunkOf,
		end:   sse.Event{Data: []byte("[DONE]")},
	},
	{
		name: "openai-go v3",
		read: func(ctx context.Context, url string, client *http.Client) (text string, err error) {
			c := openai.NewClient(openaioption.WithBaseURL(url), openaioption.WithAPIKey("key"), openaioption.WithHTTPClient(client), openaioption.WithMaxRetries(0))
			params := openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")}}
			err = eachEvent(c.Chat.Completions.NewStreaming(ctx, params), func(chunk openai.ChatCompletionChunk) {
				text += chunk.Choices[0].Delta.Content
			})
			return text, err
		},
		delta: chunkOf,
		end:   sse.Event{Data: []byte("[DONE]")},
	},
	{
		name: "anthropic-sdk-go",
		read: func(ctx context.Context, url string, client *http.Client) (text string, err error) {
			c := anthropic.NewClient(anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey("key"), anthropicoption.WithHTTPClient(client), anthropicoption.WithMaxRetries(0))
			params := anthropic.MessageNewParams{Model: "m", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))}}
			err = eachEvent(c.Messages.NewStreaming(ctx, params), func(e anthropic.MessageStreamEventUnion) {
				text += e.Delta.Text
			})
			return text, err
		},
		delta: func(text string) sse.Event {
			return eventOf("content_block_delta", fields{"type": "content_block_delta", "index": 0, "delta": fields{"type": "text_delta", "text": text}})
		},
		end: eventOf("message_stop", fields{"type": "message_stop"}),
	},
}

// chunkOf is a chunk of a completion, as OpenAI's API streams it.
func chunkOf(text string) sse.Event {
	return eventOf("", fields{
		"id": "1", "object": "chat.completion.chunk", "model": "m",
		"choices": []any{fields{"index": 0, "delta": fields{"content": text}}},
	})
}

func eventOf(typ string, data any) sse.Event {
	m := pieceOf(typ, data)
	return sse.Event{Type: m.Type, Data: m.Data}
}

// eventStream is the stream of these clients.
type eventStream[E any] interface {
	Next() bool
	Current() E
	Err() error
	Close() error
}

// eachEvent reads a stream until it ends.
func eachEvent[E any](s eventStream[E], f func(E)) error {
	for s.Next() {
		f(s.Current())
	}
	err := s.Err()
	_ = s.Close()
	return err
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

// complete reads a completion of a handler.
func complete(t *testing.T, c completer, h http.Handler, b *beats) (text string, err error) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	return c.read(t.Context(), server.URL, &http.Client{Transport: b})
}

// Go clients, of which openai-go v1 fails on a blank line before the first event, read a Writer's
// stream: with heartbeats, with comments, and with the line for the time to reconnect after.
func TestCompletersReadAWriter(t *testing.T) {
	for _, c := range completers {
		for name, o := range map[string]*sse.Options{
			"the defaults": nil,
			"no retry":     {Retry: -1},
			"heartbeats":   {Heartbeat: 2 * time.Millisecond},
		} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				b := newBeats()
				some := func() {
					if name == "heartbeats" {
						b.wait(2)
					}
				}
				text, err := complete(t, c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := sse.NewWriter(w, r, o)
					if !assert.NoError(t, err) {
						return
					}
					defer s.Close()
					some()
					assert.NoError(t, s.Comment("thinking\nhard"))
					for _, token := range []string{"to ", "be ", "or not"} {
						assert.NoError(t, s.Send(c.delta(token)))
						some()
					}
					assert.NoError(t, s.Send(c.end))
				}), b)
				require.NoError(t, err)
				require.Equal(t, "to be or not", text)
			})
		}
		t.Run(c.name+", an abort is an error", func(t *testing.T) {
			text, err := complete(t, c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, nil)
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, s.Send(c.delta("to be")))
				assert.NoError(t, s.Abort())
			}), newBeats())
			require.Error(t, err)
			require.Equal(t, "to be", text)
		})
	}
}

// They read a Handler's stream whose Notice leaves out what the stream would begin with.
func TestCompletersReadAHandlerWithoutNotices(t *testing.T) {
	for _, c := range completers {
		t.Run(c.name, func(t *testing.T) {
			for _, detach := range []bool{false, true} {
				for _, retry := range []time.Duration{0, -1} {
					var hub broadcast.Hub
					h := &sse.Handler{
						Broadcaster: &hub, Topics: []string{"a"}, Detach: detach, Logger: silent,
						Options: sse.Options{Retry: retry, Heartbeat: 2 * time.Millisecond},
						Notice:  unsent,
					}
					b := newBeats()
					go func() {
						for _, e := range []sse.Event{c.delta("to "), c.delta("be"), c.end} {
							b.wait(1)
							_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: e.Type, Data: e.Data})
							assert.NoError(t, err)
						}
						hub.Close()
					}()
					text, err := complete(t, c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						// These clients always send a POST, and accept JSON.
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
		})
	}
}
