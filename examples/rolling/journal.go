package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// In production, servers share the log of an engine such as NATS JetStream, Redis Streams
// or a database. Here the log is in the memory of a separate process, which servers reach
// over HTTP. A Journal for an engine works the same way.

// entry is an entry of the log in JSON, or a gap.
type entry struct {
	Message broadcast.Message
	Gap     bool
}

type bounds struct{ Oldest, Newest broadcast.ID }

// runJournal serves the log over HTTP.
func runJournal(ctx context.Context, addr string) error {
	var journal broadcasttest.Journal
	mux := http.NewServeMux()
	mux.HandleFunc("POST /append", func(w http.ResponseWriter, r *http.Request) {
		var ms []broadcast.Message
		if err := json.NewDecoder(r.Body).Decode(&ms); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ids, err := journal.Append(r.Context(), ms...)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(ids)
	})
	mux.HandleFunc("GET /tail", func(w http.ResponseWriter, r *http.Request) {
		after, err := broadcast.ParseID(r.URL.Query().Get("after"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out := json.NewEncoder(w)
		flush := http.NewResponseController(w).Flush
		_ = flush()
		for m, err := range journal.Node().Tail(r.Context(), after) {
			if err != nil && !errors.Is(err, broadcast.ErrGap) {
				return
			}
			if out.Encode(entry{m, err != nil}) != nil || flush() != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /bounds", func(w http.ResponseWriter, r *http.Request) {
		oldest, newest, err := journal.Bounds(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(bounds{oldest, newest})
	})
	listener, err := listen(addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// remote is a broadcast.Journal whose log is in another process.
type remote struct {
	url    string
	client *http.Client
}

func newJournal(url string) *remote { return &remote{url, &http.Client{}} }

// call makes a request, and decodes the response into v.
func (j *remote) call(ctx context.Context, method, path string, body, v any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, j.url+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	response, err := j.client.Do(r)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err) // nothing was sent
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the journal answered %s", response.Status)
	}
	return json.NewDecoder(response.Body).Decode(v)
}

func (j *remote) Append(ctx context.Context, ms ...broadcast.Message) (ids []broadcast.ID, err error) {
	return ids, j.call(ctx, http.MethodPost, "/append", ms, &ids)
}

func (j *remote) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	var b bounds
	err = j.call(ctx, http.MethodGet, "/bounds", nil, &b)
	return b.Oldest, b.Newest, err
}

func (j *remote) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url+"/tail?after="+after.String(), nil)
		if err != nil {
			yield(broadcast.Message{}, err)
			return
		}
		response, err := j.client.Do(r)
		if err != nil {
			yield(broadcast.Message{}, err)
			return
		}
		defer response.Body.Close()
		for in := json.NewDecoder(response.Body); ; {
			var e entry
			if err := in.Decode(&e); err != nil {
				yield(broadcast.Message{}, err)
				return
			}
			err = nil
			if e.Gap {
				err = &broadcast.GapError{ID: e.Message.ID}
			}
			if !yield(e.Message, err) {
				return
			}
		}
	}
}
