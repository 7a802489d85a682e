// Tokens streams an answer word by word, like a language model: a POST whose response is an
// event stream. The page reads it with fetch, and can stop it.
//
//	go run ./examples/tokens
//	curl -N -d '{"question":"What is a fanfare?"}' http://localhost:8080/answer
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/sse"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string) error {
	server := &http.Server{Handler: newTokens(local{pause: 40 * time.Millisecond}), ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Ask on http://%s\n", listener.Addr())
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

//go:embed index.html
var page []byte

func newTokens(source Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // fails if the client has left
	})
	mux.HandleFunc("POST /answer", func(w http.ResponseWriter, r *http.Request) { answer(w, r, source) })
	return mux
}

// answer streams the tokens of an answer as events of the type "token", each a JSON string. The
// last event has the type "done" or "failed".
func answer(w http.ResponseWriter, r *http.Request, source Source) {
	question, err := read(http.MaxBytesReader(w, r.Body, 16<<10))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	stream, err := sse.NewWriter(w, r, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer stream.Close()
	began, n := time.Now(), 0
	var runes sse.RuneBuffer // a model may cut a text anywhere, also within a rune
	// The stream's context ends when the client leaves, which stops the source.
	for token, err := range source.Tokens(stream.Context(), question) {
		if err == nil {
			n++
			if text := runes.Add(token); text != "" {
				err = stream.SendJSON("token", text)
			}
		}
		if err != nil {
			log.Printf("the answer ended after %d tokens: %v", n, err)
			// If the client has left, this is not sent.
			_ = stream.SendJSON("failed", "The answer could not be finished.")
			return
		}
	}
	if rest := runes.Rest(); rest != "" {
		log.Printf("the answer ended within a rune: %x", rest)
	}
	_ = stream.SendJSON("done", map[string]any{"tokens": n, "seconds": time.Since(began).Seconds()})
}

// read returns the question in a request's body.
func read(body io.Reader) (string, error) {
	var request struct{ Question string }
	if err := json.NewDecoder(body).Decode(&request); err != nil {
		return "", fmt.Errorf(`the body must be {"question":"..."} in JSON: %w`, err)
	}
	if request.Question = strings.TrimSpace(request.Question); request.Question == "" {
		return "", errors.New("the question is empty")
	}
	return request.Question, nil
}
