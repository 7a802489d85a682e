// Board shows who is here and where their cursors are, and the marks that they leave. Each
// connection has a Key, whose value goes with it: a page that is reloaded, killed or left stays
// on nobody's board. Its test runs the whole program in memory and in fake time, where an hour
// takes a millisecond.
//
//	go run ./examples/board
//	go test ./examples/board
package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/browser"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	flag.Parse()
	server := &http.Server{Handler: newBoard(), ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Board on http://%s\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}

const topic = "board"

// board has a seat for each connection.
type board struct {
	hub broadcast.Hub // in memory, so that Publish does not wait

	// mu is locked while a seat's value is published, so that none follows its removal.
	mu    sync.Mutex
	seats map[string][]*seat // guarded by mu: those of each page, the newest last
}

// seat is the place of one connection. A page has two of them for a moment when it comes back
// before the server has noticed that it was away.
type seat struct {
	key   string // begins with the name of the page and a slash
	asked string // the name that the page has asked for
	person
}

// person is the data of a seat, and of a mark, in JSON. X and Y are from 0 to 1, or nil for
// somebody who has not moved.
type person struct {
	Name string   `json:"name"`
	X    *float64 `json:"x"`
	Y    *float64 `json:"y"`
}

//go:embed index.html
var page []byte

// newBoard returns the board's routes: /events and /ws receive, /ws and /act send.
func newBoard() http.Handler {
	b := &board{hub: broadcast.Hub{Keep: 1000}, seats: make(map[string][]*seat)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // fails if the client has left
	})
	mux.Handle("GET /fanfare.js", browser.Handler())
	mux.Handle("GET /events", &sse.Handler{Broadcaster: &b.hub, Grant: b.grant})
	mux.Handle("GET /ws", &ws.Handler{
		Broadcaster: &b.hub,
		Grant:       b.grant,
		Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			page := r.FormValue("page")
			return func(_ ws.MessageType, data []byte) error {
				if err := b.act(page, data); err != nil {
					return &ws.CloseError{Code: ws.StatusPolicyViolation, Reason: err.Error()}
				}
				return nil
			}
		},
		Options: ws.Options{PingInterval: 5 * time.Second, MaxMessage: 1000, MessageRate: 60},
	})
	mux.HandleFunc("POST /act", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1000))
		if err == nil {
			err = b.act(r.URL.Query().Get("page"), data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /connections", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(b.connections())
	})
	return mux
}

// grant gives a client a seat, until its connection ends. The client gets the whole board, but
// not what is its own page's.
func (b *board) grant(r *http.Request) (*fanfare.Grant, error) {
	page, name := r.FormValue("page"), strings.TrimSpace(r.FormValue("name"))
	if page == "" || len(page) > 40 || strings.ContainsRune(page, '/') || name == "" || utf8.RuneCountInString(name) > 40 {
		return nil, &fanfare.Refusal{Status: http.StatusBadRequest, Err: errors.New("no page or no name")}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before := &seat{}
	if seats := b.seats[page]; len(seats) > 0 {
		before = seats[len(seats)-1]
	}
	s := &seat{key: page + "/" + rand.Text(), asked: name, person: before.person}
	if before.asked != name {
		s.Name = b.free(page, name)
	}
	if err := b.publish(broadcast.Message{Type: "here", Key: s.key}, s.person); err != nil {
		return nil, err
	}
	b.seats[page] = append(b.seats[page], s)
	context.AfterFunc(r.Context(), func() { b.leave(page, s) })
	return &fanfare.Grant{
		Topics:    []string{topic},
		Beginning: true,
		Filter:    func(m *broadcast.Message) bool { return !strings.HasPrefix(m.Key, page+"/") },
	}, nil
}

// leave is called when a connection has ended.
func (b *board) leave(page string, s *seat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seats[page] = slices.DeleteFunc(b.seats[page], func(other *seat) bool { return other == s }); len(b.seats[page]) == 0 {
		delete(b.seats, page)
	}
	_ = b.publish(broadcast.Message{Type: "gone", Key: s.key, Removed: true}, s.person) // the hub may be closed
}

// act does what a page asks for, in JSON: {"do":"move","x":0.5,"y":0.5}, the same with "mark", or
// {"do":"clear"}. What comes after the page's last connection has ended is ignored.
func (b *board) act(page string, data []byte) error {
	var a struct {
		Do   string
		X, Y float64
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return errors.New("this is not JSON")
	}
	if !(0 <= a.X && a.X <= 1 && 0 <= a.Y && a.Y <= 1) {
		return errors.New("x and y are from 0 to 1")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	seats := b.seats[page]
	if len(seats) == 0 {
		return nil
	}
	s := seats[len(seats)-1]
	switch a.Do {
	case "move":
		s.X, s.Y = &a.X, &a.Y
		return b.publish(broadcast.Message{Type: "here", Key: s.key}, s.person)
	case "mark":
		return b.publish(broadcast.Message{Type: "mark"}, person{s.Name, &a.X, &a.Y})
	case "clear":
		return b.publish(broadcast.Message{Type: "clear", First: true}, person{Name: s.Name})
	default:
		return errors.New("do is move, mark or clear")
	}
}

func (b *board) publish(m broadcast.Message, data any) (err error) {
	m.Topic = topic
	if m.Data, err = json.Marshal(data); err == nil {
		_, err = b.hub.Publish(context.Background(), m)
	}
	return err
}

// free returns a name that no other page has: with a number if need be. Others would not know
// whose cursor it is.
func (b *board) free(page, name string) string {
	taken := func(name string) bool {
		for other, seats := range b.seats {
			if other != page && slices.ContainsFunc(seats, func(s *seat) bool { return strings.EqualFold(s.Name, name) }) {
				return true
			}
		}
		return false
	}
	numbered := name
	for n := 2; taken(numbered); n++ {
		numbered = fmt.Sprintf("%s %d", name, n)
	}
	return numbered
}

// connection is a seat in JSON.
type connection struct {
	Key  string `json:"key"`
	Name string `json:"name"`
}

// connections returns all of them, the newest of a page after its others.
func (b *board) connections() []connection {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := []connection{}
	for _, seats := range b.seats {
		for _, s := range seats {
			all = append(all, connection{s.key, s.Name})
		}
	}
	return all
}
