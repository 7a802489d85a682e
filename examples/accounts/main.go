// Accounts is a service of three servers on which a user is signed in with several browsers.
// Sign out one browser from another, and see its streams end on each server.
//
//	go run ./examples/accounts
package main

import (
	"bytes"
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
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/browser"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

//go:embed index.html
var page []byte

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Sign in with two browsers, or with a private window, on http://%s\n", listener.Addr())
	server := &http.Server{Handler: newService(ctx), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// session is a browser or an app that is signed in. Its cookie or token is a secret, its ID is not.
type session struct {
	ID, User, Browser string
	App               bool
	Since             time.Time
}

// lifetime is how long a session is valid.
const lifetime = 8 * time.Hour

// service has what the servers share, the sessions in place of a database.
type service struct {
	servers []*server

	mu       sync.Mutex
	sessions map[string]session // by the secret
}

// server is one of several: a Hub on the log that they share, and what it knows of its streams.
type server struct {
	hub      *broadcast.Hub
	sessions *middleware.Sessions
}

func newService(ctx context.Context) http.Handler {
	s := &service{sessions: make(map[string]session)}
	shared := new(broadcasttest.Journal) // in place of NATS or Redis
	secret := []byte(rand.Text() + rand.Text())
	mux := http.NewServeMux()
	for i := range 3 {
		hub := &broadcast.Hub{Journal: shared.Node()}
		go hub.Run(ctx)
		tickets := &middleware.Tickets{Broadcaster: hub, Secret: secret}
		sessions := &middleware.Sessions{Broadcaster: hub, KeepOut: lifetime} // by the ticket's identity, a session's ID
		s.servers = append(s.servers, &server{hub, sessions})
		streams := func(h http.Handler) http.Handler { return tickets.Handler(sessions.Handler(h)) }
		mux.Handle(fmt.Sprintf("GET /%d/events", i+1), streams(&sse.Handler{Broadcaster: hub, Grant: s.grant}))
		mux.Handle(fmt.Sprintf("GET /%d/ws", i+1), streams(&ws.Handler{Broadcaster: hub, Grant: s.grant}))
		mux.Handle(fmt.Sprintf("POST /%d/ticket", i+1), tickets.Issue(func(r *http.Request) (string, error) {
			return s.of(r).ID, nil
		}))
	}
	mux.Handle("GET /fanfare.js", browser.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(page))
	})
	mux.HandleFunc("POST /sign-in", s.signIn)
	mux.HandleFunc("GET /sessions", s.list)
	mux.HandleFunc("POST /sessions/{id}/sign-out", s.signOut)
	return mux
}

// grant lets in the session that a ticket was issued for.
func (s *service) grant(r *http.Request) (*fanfare.Grant, error) {
	_, session := s.find(func(_ string, one session) bool { return one.ID == middleware.Identity(r.Context()) })
	if session.ID == "" {
		return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
	}
	return &fanfare.Grant{Topics: []string{"users/" + session.User}, Expires: session.Since.Add(lifetime)}, nil
}

// find returns a session that is valid and its secret; without an ID if there is none.
func (s *service) find(match func(secret string, one session) bool) (secret string, _ session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for secret, one := range s.sessions {
		if time.Since(one.Since) < lifetime && match(secret, one) {
			return secret, one
		}
	}
	return "", session{}
}

// of returns the session of a request: that of a token, which an app sends, or of the cookie.
func (s *service) of(r *http.Request) session {
	sent, isApp := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if cookie, err := r.Cookie("session"); err == nil && !isApp {
		sent = cookie.Value
	}
	_, one := s.find(func(secret string, one session) bool { return secret == sent && one.App == isApp })
	return one
}

// signIn begins a session. A browser gets a cookie, an app its token.
func (s *service) signIn(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.FormValue("user")) // a password is left to you
	if user == "" || len(user) > 40 || !utf8.ValidString(user) || strings.ContainsAny(user, "\r\n\x00") {
		http.Error(w, "a name of at most 40 bytes is needed", http.StatusBadRequest)
		return
	}
	secret, app := rand.Text(), r.FormValue("app") != ""
	s.mu.Lock()
	s.sessions[secret] = session{ID: rand.Text(), User: user, Browser: browserName(r.UserAgent()), App: app, Since: time.Now()}
	s.mu.Unlock()
	if app {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, secret) // fails if the client has left
	} else {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(lifetime.Seconds())})
	}
	s.tell(r.Context(), user)
}

// tell lets the pages of a user ask for the list of sessions.
func (s *service) tell(ctx context.Context, user string) {
	_, err := s.servers[0].hub.Publish(ctx, broadcast.Message{Topic: "users/" + user, Type: "sessions", Data: []byte("changed")})
	if err != nil {
		log.Print("telling the pages of a change: ", err)
	}
}

// list returns the sessions of the user, and how many streams each has on each server.
func (s *service) list(w http.ResponseWriter, r *http.Request) {
	type row struct {
		session
		Mine    bool
		Streams []int
	}
	me, rows := s.of(r), []row{}
	s.mu.Lock()
	for _, one := range s.sessions {
		if me.ID != "" && one.User == me.User {
			var counts []int
			for _, server := range s.servers {
				counts = append(counts, server.sessions.Streams(one.ID))
			}
			rows = append(rows, row{one, one.ID == me.ID, counts})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(rows, func(a, b row) int { return a.Since.Compare(b.Since) })
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(rows)
}

// signOut ends a session of the user. Any server may be asked: all end its streams.
func (s *service) signOut(w http.ResponseWriter, r *http.Request) {
	me := s.of(r)
	secret, session := s.find(func(_ string, one session) bool { return one.ID == r.PathValue("id") && one.User == me.User })
	if me.ID == "" || session.ID == "" {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	s.mu.Lock()
	delete(s.sessions, secret)
	s.mu.Unlock()
	if err := s.servers[0].sessions.Revoke(r.Context(), session.ID, "signed out"); err != nil {
		http.Error(w, "not signed out on all servers: try again", http.StatusServiceUnavailable)
		return
	}
	s.tell(r.Context(), session.User)
}
