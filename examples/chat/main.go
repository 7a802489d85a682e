// Chat is a chat with one room for each path. Each client chooses its transport
// (WebSocket, Server-Sent Events or long polling) and may switch at any time: all
// transports carry the same messages with the same IDs.
//
//	go run ./examples/chat
//
// With a folder for its messages a restart loses nothing, not even after kill -9: open pages
// come back to the next process where they were.
//
//	go run ./examples/chat -dir /tmp/chat
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
	"github.com/fanfare-go/fanfare/browser"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	dir := flag.String("dir", "", "the folder that keeps the messages; if empty, they are kept in memory")
	flag.Parse()
	if err := run(*addr, *dir); err != nil {
		log.Fatal(err)
	}
}

// run serves until the process is interrupted.
func run(addr, dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var hub broadcast.Hub
	if dir != "" {
		journal := &filejournal.Journal{Dir: dir}
		defer journal.Close() // after the Hub, whose Close ends Run
		hub.Journal = journal
		go hub.Run(context.Background())
		defer hub.Close()
	}
	server := &http.Server{Handler: newChat(&hub), ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Chat on http://%s/rooms/lobby\n", listener.Addr())
	go func() {
		<-ctx.Done()
		// Shutdown also ends the streams, after they have sent their pending messages.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

//go:embed static
var static embed.FS

// newChat returns the chat's routes. Both handlers use the same hub, so both get all
// messages.
func newChat(hub *broadcast.Hub) http.Handler {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Logger, middleware.Recoverer)
	r.Get("/", http.RedirectHandler("/rooms/lobby", http.StatusFound).ServeHTTP)
	r.Handle("/static/*", http.StripPrefix("/static/", http.FileServerFS(files)))
	r.Method(http.MethodGet, "/fanfare.js", browser.Handler())
	r.Get("/rooms/{room}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "index.html")
	})

	r.Method(http.MethodGet, "/rooms/{room}/events", &sse.Handler{Broadcaster: hub, Grant: grant})
	r.Method(http.MethodGet, "/rooms/{room}/ws", &ws.Handler{
		Broadcaster: hub,
		Grant:       grant,
		Options:     ws.Options{MaxMessage: 16 << 10, MessageRate: 20},
		Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			room := topic(r) // the request is valid only until Receive returns
			return func(_ ws.MessageType, data []byte) error {
				// The context may have ended: a client can send a message and leave at once.
				err := publish(context.WithoutCancel(c.Context()), hub, room, "websocket", data)
				if errors.Is(err, errInvalid) {
					return &ws.CloseError{Code: ws.StatusPolicyViolation, Reason: err.Error()}
				}
				return err
			}
		},
	})
	r.Post("/rooms/{room}/messages", func(w http.ResponseWriter, r *http.Request) {
		var data json.RawMessage
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&data)
		if err == nil {
			err = publish(r.Context(), hub, topic(r), "post", data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return r
}

// topic returns the topic of a request's room.
func topic(r *http.Request) string { return "room/" + chi.URLParam(r, "room") }

// grant lets every client into every room, and begins with the room's last 20 messages.
func grant(r *http.Request) (*fanfare.Grant, error) {
	if room := chi.URLParam(r, "room"); utf8.RuneCountInString(room) > 50 || !utf8.ValidString(room) {
		return nil, &fanfare.Refusal{Status: http.StatusNotFound}
	}
	return &fanfare.Grant{Topics: []string{topic(r)}, Last: 20}, nil
}

// message is a chat message in JSON. Clients send Name and Text.
type message struct {
	Name string    `json:"name"`
	Text string    `json:"text"`
	Via  string    `json:"via"`
	At   time.Time `json:"at"`
}

var errInvalid = errors.New("a message needs a name of at most 40 characters and a text of at most 2000")

// publish checks and publishes a message that a client has sent.
func publish(ctx context.Context, hub *broadcast.Hub, topic, via string, data []byte) error {
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("%w: %v", errInvalid, err)
	}
	m.Name, m.Text = strings.TrimSpace(m.Name), strings.TrimSpace(m.Text)
	if n := utf8.RuneCountInString(m.Name); n == 0 || n > 40 {
		return errInvalid
	}
	if n := utf8.RuneCountInString(m.Text); n == 0 || n > 2000 {
		return errInvalid
	}
	m.Via, m.At = via, time.Now().UTC()
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = hub.Publish(ctx, broadcast.Message{Topic: topic, Type: "chat", Data: data})
	return err
}
