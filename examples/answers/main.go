// Answers streams texts word by word, as a language model does. An answer survives a reload of
// its page, a second tab sees it too, and it may be stopped: it is written once, into a topic of
// its own, by a goroutine that does not depend on any request.
//
//	go run ./examples/answers
//
// With a folder for the log, also what was being written at a kill -9 is finished:
//
//	go run ./examples/answers -dir /tmp/answers
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
	"github.com/fanfare-go/fanfare/browser"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	dir := flag.String("dir", "", "the folder that keeps the answers; if empty, they are kept in memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *dir); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, dir string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hub := newHub()
	if dir != "" {
		journal := &filejournal.Journal{Dir: dir}
		defer journal.Close() // after the Hub, whose Close ends Run
		hub.Journal = journal
		go hub.Run(context.Background())
		defer hub.Close()
	}
	answers, err := newAnswers(ctx, hub, local{pause: 70 * time.Millisecond})
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(answers), ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Ask on http://%s\n", listener.Addr())
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // ends the streams too
	}()
	err = server.Serve(listener)
	cancel()
	answers.writing.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// newHub keeps an answer for an hour after the last page has left it.
func newHub() *broadcast.Hub {
	return &broadcast.Hub{Retain: map[string]broadcast.Retention{"answer/": {TTL: time.Hour}, list: {TTL: -1}}}
}

//go:embed index.html
var page []byte

func routes(a *answers) http.Handler {
	mux := http.NewServeMux()
	show := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // fails if the client has left
	}
	mux.HandleFunc("GET /{$}", show)
	mux.HandleFunc("GET /answers/{id}", show)
	mux.Handle("GET /fanfare.js", browser.Handler())
	mux.HandleFunc("POST /answers", func(w http.ResponseWriter, r *http.Request) {
		question := r.FormValue("question")
		if !known(question) {
			http.Error(w, "there is no answer to this question", http.StatusBadRequest)
			return
		}
		id, err := a.ask(r.Context(), question)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Location", "/answers/"+id)
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("POST /answers/{id}/stop", func(w http.ResponseWriter, r *http.Request) {
		if !a.stop(r.PathValue("id")) {
			http.Error(w, "no such answer is being written", http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})

	// Whoever knows the name of an answer may read it, from its beginning.
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		id := r.PathValue("id")
		if !a.has(id) {
			return nil, &fanfare.Refusal{Status: http.StatusNotFound}
		}
		return &fanfare.Grant{Topics: []string{"answer/" + id}, Beginning: true}, nil
	}
	mux.Handle("GET /answers/{id}/events", &sse.Handler{Broadcaster: a.hub, Grant: grant})
	mux.Handle("GET /answers/{id}/ws", &ws.Handler{Broadcaster: a.hub, Grant: grant})
	return mux
}
