package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// answers are texts that are being generated, in the protocols of three clients. Each answer is a
// topic: its pieces are events, the last one is its end. The request that starts it, and those that
// come back to it, get a stream of the same Handler.
type answers struct {
	t   *testing.T
	hub *broadcast.Hub

	mu      sync.Mutex
	pending map[string][]broadcast.Message // by topic: what /go still has to publish
	conns   map[net.Conn]bool
}

// start makes an answer known whose pieces /go publishes, the way a model would generate them.
func (a *answers) start(topic string, pieces []broadcast.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range pieces {
		pieces[i].Topic = topic
	}
	pieces[len(pieces)-1].End = true
	a.pending[topic] = pieces
}

func (a *answers) knows(topic string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending[topic] != nil
}

// generate publishes the next n pieces of a topic, as the request says.
func (a *answers) generate(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if assert.NoError(a.t, err) {
		a.publish(r.Context(), r.URL.Query().Get("topic"), n)
	}
}

func (a *answers) publish(ctx context.Context, topic string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	pieces := a.pending[topic]
	n = min(n, len(pieces))
	for _, m := range pieces[:n] {
		_, err := a.hub.Publish(ctx, m)
		assert.NoError(a.t, err)
	}
	a.pending[topic] = pieces[n:]
}

// cut closes the connections of all streams.
func (a *answers) cut(http.ResponseWriter, *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.conns {
		_ = c.Close()
		delete(a.conns, c)
	}
}

type answerConn struct{}

// handler serves one answer after the other: its topic is in the request's context.
func (a *answers) handler(h *sse.Handler, filter func(*http.Request) func(*broadcast.Message) bool) func(w http.ResponseWriter, r *http.Request, topic string) {
	type topicKey struct{}
	h.Broadcaster, h.Abort, h.Logger = a.hub, true, slog.New(slog.DiscardHandler)
	h.Options.Retry = 50 * time.Millisecond
	h.Grant = func(r *http.Request) (*fanfare.Grant, error) {
		g := &fanfare.Grant{Topics: []string{r.Context().Value(topicKey{}).(string)}, Beginning: true}
		if filter != nil {
			g.Filter = filter(r)
		}
		return g, nil
	}
	return func(w http.ResponseWriter, r *http.Request, topic string) {
		a.mu.Lock()
		a.conns[r.Context().Value(answerConn{}).(net.Conn)] = true
		a.mu.Unlock()
		get := r.Clone(context.WithValue(r.Context(), topicKey{}, topic)) // the request that starts an answer is a POST
		get.Method, get.Body, get.ContentLength = http.MethodGet, http.NoBody, 0
		get.Header.Del("Accept") // OpenAI's client accepts JSON alone, and asks for a stream in the query or the body
		h.ServeHTTP(w, get)
	}
}

// unsent sends none of the stream's own notices, for a client whose events are all its own. A new
// client has nothing, so that a beginning may be left out.
func unsent(fanfare.Notice) (sse.Event, bool) { return sse.Event{}, false }

func pieceOf(typ string, data any) broadcast.Message {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return broadcast.Message{Type: typ, Data: b}
}

type fields = map[string]any

// words is the text of all answers.
var words = []string{"An ", "answer ", "that ", "is ", "generated ", "outlives ", "its ", "connection."}

// aiSDK serves the protocol of the AI SDK: a chat's answer is streamed to the request that asks, and
// to one that comes back to it. Types would be unknown to the client.
func (a *answers) aiSDK(mux *http.ServeMux) {
	stream := a.handler(&sse.Handler{
		Notice: unsent,
		Encode: func(m *broadcast.Message) (sse.Event, bool) { return sse.Event{Data: m.Data}, true },
	}, nil)
	mux.HandleFunc("POST /ai", func(w http.ResponseWriter, r *http.Request) {
		var chat struct{ ID string }
		if !assert.NoError(a.t, json.NewDecoder(r.Body).Decode(&chat)) {
			return
		}
		pieces := []broadcast.Message{
			pieceOf("", fields{"type": "start", "messageId": "answer to " + chat.ID}), pieceOf("", fields{"type": "text-start", "id": "1"}),
		}
		for _, word := range words {
			pieces = append(pieces, pieceOf("", fields{"type": "text-delta", "id": "1", "delta": word}))
		}
		a.start("ai/"+chat.ID, append(pieces, pieceOf("", fields{"type": "text-end", "id": "1"}), pieceOf("", fields{"type": "finish"})))
		stream(w, r, "ai/"+chat.ID)
	})
	mux.HandleFunc("GET /ai/{id}/stream", func(w http.ResponseWriter, r *http.Request) {
		if topic := "ai/" + r.PathValue("id"); a.knows(topic) {
			stream(w, r, topic)
		} else {
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

// openAI serves OpenAI's Responses: the answer has a number for each event, after which a client
// resumes.
func (a *answers) openAI(mux *http.ServeMux) {
	after := func(r *http.Request) func(*broadcast.Message) bool {
		after, err := strconv.Atoi(r.URL.Query().Get("starting_after"))
		if err != nil {
			return nil
		}
		return func(m *broadcast.Message) bool {
			var e struct {
				Number int `json:"sequence_number"`
			}
			return json.Unmarshal(m.Data, &e) == nil && e.Number > after
		}
	}
	stream := a.handler(&sse.Handler{Notice: unsent}, after)
	mux.HandleFunc("POST /openai/responses", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		var pieces []broadcast.Message
		add := func(typ string, more fields) {
			more["type"], more["sequence_number"] = typ, len(pieces)
			pieces = append(pieces, pieceOf(typ, more))
		}
		add("response.created", fields{"response": fields{"id": "resp_1", "object": "response", "status": "in_progress", "output": []any{}}})
		for _, word := range words {
			add("response.output_text.delta", fields{"item_id": "1", "output_index": 0, "content_index": 0, "delta": word})
		}
		add("response.completed", fields{"response": fields{"id": "resp_1", "object": "response", "status": "completed", "output": []any{}}})
		a.start("resp_1", pieces)
		stream(w, r, "resp_1")
	})
	mux.HandleFunc("GET /openai/responses/{id}", func(w http.ResponseWriter, r *http.Request) { stream(w, r, r.PathValue("id")) })
}

// anthropic serves Anthropic's Messages. Its client cannot resume: a request with the same user gets
// the same answer again, from the start.
func (a *answers) anthropic(mux *http.ServeMux) {
	stream := a.handler(&sse.Handler{Notice: unsent}, nil)
	mux.HandleFunc("POST /anthropic/v1/messages", func(w http.ResponseWriter, r *http.Request) {
		var message struct {
			Metadata struct {
				UserID string `json:"user_id"`
			}
		}
		if !assert.NoError(a.t, json.NewDecoder(r.Body).Decode(&message)) {
			return
		}
		topic := "anthropic/" + message.Metadata.UserID
		if !a.knows(topic) {
			event := func(typ string, more fields) broadcast.Message {
				more["type"] = typ
				return pieceOf(typ, more)
			}
			pieces := []broadcast.Message{
				event("message_start", fields{"message": fields{"id": "1", "type": "message", "role": "assistant", "content": []any{}, "usage": fields{}}}),
				event("content_block_start", fields{"index": 0, "content_block": fields{"type": "text", "text": ""}}),
			}
			for _, word := range words {
				pieces = append(pieces, event("content_block_delta", fields{"index": 0, "delta": fields{"type": "text_delta", "text": word}}))
			}
			a.start(topic, append(pieces, event("content_block_stop", fields{"index": 0}), event("message_stop", fields{})))
		}
		stream(w, r, topic)
	})
}

// mcp serves the Streamable HTTP of the Model Context Protocol. Its client resumes by the header
// Last-Event-ID. It learns an ID from an event, which may be without data: so each notice is one.
func (a *answers) mcp(mux *http.ServeMux) {
	stream := a.handler(&sse.Handler{
		Notice: func(n fanfare.Notice) (sse.Event, bool) {
			return sse.Event{}, n.Kind == fanfare.Ready || n.Kind == fanfare.Position
		},
	}, nil)
	mux.HandleFunc("POST /mcp", func(w http.ResponseWriter, r *http.Request) {
		var call struct {
			ID     any
			Method string
			Params struct {
				Meta struct{ ProgressToken any } `json:"_meta"`
			}
		}
		if !assert.NoError(a.t, json.NewDecoder(r.Body).Decode(&call)) {
			return
		}
		switch call.Method {
		case "initialize":
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Mcp-Session-Id", "session")
			assert.NoError(a.t, json.NewEncoder(w).Encode(fields{"jsonrpc": "2.0", "id": call.ID, "result": fields{
				"protocolVersion": "2025-06-18", "capabilities": fields{"tools": fields{}}, "serverInfo": fields{"name": "answers", "version": "1"},
			}}))
		case "tools/call":
			var pieces []broadcast.Message
			for i, word := range words {
				pieces = append(pieces, pieceOf("", fields{"jsonrpc": "2.0", "method": "notifications/progress", "params": fields{
					"progressToken": call.Params.Meta.ProgressToken, "progress": i + 1, "message": word,
				}}))
			}
			a.start("session", append(pieces, pieceOf("", fields{"jsonrpc": "2.0", "id": call.ID, "result": fields{
				"content": []any{fields{"type": "text", "text": strings.Join(words, "")}},
			}})))
			stream(w, r, "session")
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	mux.HandleFunc("GET /mcp", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") == "" {
			w.WriteHeader(http.StatusMethodNotAllowed) // there are no messages outside of calls
			return
		}
		stream(w, r, r.Header.Get("Mcp-Session-Id"))
	})
}

// serveAnswers serves all of them until the test ends.
func serveAnswers(t *testing.T) (a *answers, url string) {
	a = &answers{t: t, hub: new(broadcast.Hub), pending: make(map[string][]broadcast.Message), conns: make(map[net.Conn]bool)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /go", a.generate)
	mux.HandleFunc("POST /cut", a.cut)
	a.aiSDK(mux)
	a.openAI(mux)
	a.anthropic(mux)
	a.mcp(mux)
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(sse.ConnContext(ctx, c), answerConn{}, c)
	}
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return a, server.URL
}

// The clients of the AI SDK, of OpenAI, of Anthropic and of the Model Context Protocol come back to an answer after
// a cut in the middle, and after its end, and have each piece once.
func TestAnswersOutliveTheirConnections(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("node/node_modules"); err != nil {
		t.Skip("the clients are not installed: run npm install in internal/interop/node")
	}
	for _, client := range []string{"ai", "openai", "anthropic", "mcp"} {
		t.Run(client, func(t *testing.T) {
			_, url := serveAnswers(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, node, "node/answers.mjs", client, url, strings.Join(words, "")).CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Equal(t, fmt.Sprintf("ok - %s: a cut in the middle\nok - %s: a return after the end\n", client, client), string(out))
		})
	}
}
