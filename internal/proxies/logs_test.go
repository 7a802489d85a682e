package proxies_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// credential is what stands for a bearer token.
const credential = "credential.of.ann"

// ticketBackend is a server that issues and redeems tickets, and takes bearer tokens. seen
// returns what the handlers inside have seen of the requests.
func ticketBackend(t *testing.T) (address string, seen func() string) {
	hub := new(broadcast.Hub)
	tickets := &middleware.Tickets{Logger: silent}
	token := &middleware.Token{Query: "token", Subprotocol: "bearer.", Logger: silent}
	var mu sync.Mutex
	var all strings.Builder
	note := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			fmt.Fprintln(&all, r.URL, r.RequestURI, r.Header)
			mu.Unlock()
			next.ServeHTTP(w, r)
		})
	}
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		if middleware.Identity(r.Context()) != "ann" && r.Header.Get("Authorization") != "Bearer "+credential {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
		}
		return &fanfare.Grant{Topics: []string{"news"}}, nil
	}
	authenticated := func(next http.Handler) http.Handler { // as authentication does that is done with the header
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			known := r.Header.Get("Authorization")
			r.Header.Del("Authorization")
			note(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Set("Authorization", known)
				next.ServeHTTP(w, r)
			})).ServeHTTP(w, r)
		})
	}
	events := &sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent, Options: sse.Options{Heartbeat: 250 * time.Millisecond}} // a proxy finds out by a write that its client has left
	sockets := &ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent, Options: ws.Options{Subprotocols: []string{"chat.v1"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", new(middleware.Drain).Ready)
	mux.Handle("POST /ticket", tickets.Issue(func(r *http.Request) (string, error) { return "ann", nil }))
	mux.Handle("GET /ticket/events", tickets.Handler(note(events)))
	mux.Handle("GET /ticket/ws", tickets.Handler(note(sockets)))
	mux.Handle("GET /token/events", token.Handler(authenticated(events)))
	mux.Handle("GET /token/ws", token.Handler(authenticated(sockets)))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = hub.Close() })
	return server.Listener.Addr().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// No ticket and no token is in a proxy's log, in what handlers see, or in a response,
// whichever way it was sent.
func TestNoCredentialIsInALog(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		address, seen := ticketBackend(t)
		proxy := start(t, p, address, address)
		client := proxy.client(t)
		ctx, leave := context.WithCancel(within(t, long))
		defer leave()
		var secrets, answers []string
		ticket := func() string {
			response, err := client.Post(publicSecure+"/ticket", "", nil)
			require.NoError(t, err)
			defer func() { _ = response.Body.Close() }()
			var answer struct{ Ticket string }
			require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
			secrets = append(secrets, answer.Ticket)
			return answer.Ticket
		}
		for _, path := range []string{"/ticket/events?n=1&ticket=" + ticket(), "/token/events?n=2&token=" + credential} {
			response := open(t, ctx, client, publicSecure+path)
			answers = append(answers, fmt.Sprint(response.Header))
		}
		sockets := func(path string, header http.Header, protocols ...string) {
			header.Set("Origin", publicSecure)
			c, err := ws.Dial(ctx, publicSecure+path, &ws.DialOptions{HTTPClient: client, Header: header, Options: ws.Options{Subprotocols: protocols}})
			require.NoError(t, err, path)
			answers = append(answers, c.Subprotocol())
			_ = c.Close(ws.StatusNormalClosure, "")
		}
		sockets("/ticket/ws?n=3&ticket="+ticket(), http.Header{})
		sockets("/ticket/ws?n=4", http.Header{}, "chat.v1", "ticket."+ticket())
		sockets("/token/ws?n=5", http.Header{}, "chat.v1", "bearer."+credential)
		sockets("/token/ws?n=6", http.Header{"Authorization": {"Bearer " + credential}})
		leave()
		paths := []string{"/ticket/events", "/ticket/ws", "/token/events", "/token/ws"}
		logged := ""
		require.Eventually(t, func() bool { // a stream is logged when it has ended
			logged = proxy.logged(t)
			return strings.Count(logged, "/ticket/ws") >= 2 && strings.Count(logged, "/token/ws") >= 2 &&
				strings.Contains(logged, paths[0]) && strings.Contains(logged, paths[2])
		}, long, 10*time.Millisecond)
		require.Len(t, secrets, 3)
		for _, secret := range append(secrets, credential) {
			for where, text := range map[string]string{"the log": logged, "a handler": seen(), "an answer": fmt.Sprint(answers)} {
				assert.False(t, strings.Contains(text, secret[:12]), "%s has %s:\n%s", where, secret, text)
			}
		}
	})
}
