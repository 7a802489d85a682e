package middleware_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
)

// All of the middleware in its order, in a router with a timeout for other requests.
func Example() {
	var hub broadcast.Hub
	token := &middleware.Token{Query: "access_token", Subprotocol: "bearer."}
	origins := &middleware.Origins{Allow: []string{"https://app.example.com"}}
	drain := &middleware.Drain{Delay: 5 * time.Second}
	limit := &middleware.Limit{Total: 50_000, PerKey: 20}

	router := chi.NewRouter()
	router.Use(token.Handler)     // before a logger
	router.Use(middleware.Bypass) // past the timeout
	router.Use(chimiddleware.RequestID, chimiddleware.Recoverer, chimiddleware.Timeout(30*time.Second))
	router.Get("/ready", drain.Ready)
	router.Group(func(streams chi.Router) {
		streams.Use(origins.Handler, drain.Handler, limit.Handler)
		streams.Method("GET", "/news", &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}})
		streams.Method("GET", "/news/ws", &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}})
	})

	fmt.Println(ssetest.Diagnose(router, httptest.NewRequest("GET", "/news", nil)))
	// Output: <nil>
}

// A timeout ends each stream, unless a Bypass is mounted outside of it.
func ExampleBypass() {
	news := &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}}
	handler := http.TimeoutHandler(news, 30*time.Second, "too late")
	request := httptest.NewRequest("GET", "/news", nil)
	fmt.Println(ssetest.Diagnose(handler, request) == nil)
	fmt.Println(ssetest.Diagnose(middleware.Bypass(handler), request) == nil)
	// Output:
	// false
	// true
}

func ExampleOrigins() {
	origins := &middleware.Origins{Allow: []string{"https://*.example.com"}}
	request := httptest.NewRequest("GET", "https://api.example.com/news", nil)
	for _, origin := range []string{"https://app.example.com", "https://evil-example.com"} {
		request.Header.Set("Origin", origin)
		fmt.Println(origin, origins.Check(request) == nil)
	}
	// Output:
	// https://app.example.com true
	// https://evil-example.com false
}

// Behind a proxy all connections come from the proxy. Chi's ClientIP middleware finds
// the client's address, given the addresses of the proxies.
func ExampleLimit() {
	limit := &middleware.Limit{
		PerKey: 20,
		Key:    func(r *http.Request) string { return chimiddleware.GetClientIP(r.Context()) },
	}
	news := &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}}

	router := chi.NewRouter()
	router.Use(chimiddleware.ClientIPFromXFF("192.0.2.0/24")) // the proxies
	router.With(limit.Handler).Method("GET", "/news", news)

	request := httptest.NewRequest("GET", "/news", nil)
	request.Header.Set("X-Forwarded-For", "203.0.113.99, 198.51.100.7, 192.0.2.5") // the first is what the client claims
	router.Get("/whose", func(w http.ResponseWriter, r *http.Request) { fmt.Println(limit.Key(r)) })
	request.URL.Path = "/whose"
	router.ServeHTTP(httptest.NewRecorder(), request)
	// Output: 198.51.100.7
}

// A page gets a ticket with its cookie, and opens the stream with it. In the page:
//
//	const ticket = async () => (await (await fetch('/ticket', { method: 'POST' })).json()).ticket;
//	const source = new EventSource('/news?ticket=' + await ticket());
func ExampleTickets() {
	tickets := new(middleware.Tickets)
	mux := http.NewServeMux()
	mux.Handle("POST /ticket", tickets.Issue(func(r *http.Request) (string, error) {
		user, _, ok := r.BasicAuth() // stands for the authentication of the program
		if !ok {
			return "", &fanfare.Refusal{Status: http.StatusUnauthorized}
		}
		return user, nil
	}))
	mux.Handle("GET /whoami", tickets.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(middleware.Identity(r.Context()), r.URL)
	})))

	post := httptest.NewRequest("POST", "/ticket", nil)
	post.SetBasicAuth("ann", "")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, post)
	var answer struct{ Ticket string }
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	for range 2 {
		w = httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/whoami?ticket="+answer.Ticket, nil))
		fmt.Println(w.Code)
	}
	// Output:
	// ann /whoami
	// 200
	// 401
}

// A user signs out everywhere: the streams of all of the user's pages end, on each server, and
// none comes back with the old session.
func ExampleSessions() {
	hub := new(broadcast.Hub) // with a Journal where there are several servers
	sessions := &middleware.Sessions{
		Broadcaster: hub,
		Key:         func(r *http.Request) string { return r.Header.Get("X-Session") }, // set by authentication
		KeepOut:     24 * time.Hour,                                                    // as long as a session is valid
	}
	mux := http.NewServeMux()
	mux.Handle("GET /news", sessions.Handler(&sse.Handler{Broadcaster: hub, Topics: []string{"news"}}))

	fmt.Println(sessions.Revoke(context.Background(), "4711", "signed out"))
	request := httptest.NewRequest("GET", "/news", nil)
	request.Header.Set("X-Session", "4711")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, request)
	fmt.Println(w.Code)
	// Output:
	// <nil>
	// 403
}

// On SIGTERM main first moves the streams to other servers, then ends the rest.
func ExampleDrain() {
	var hub broadcast.Hub
	drain := &middleware.Drain{Delay: 5 * time.Second, Spread: 20 * time.Second}
	mux := http.NewServeMux()
	mux.Handle("GET /news", drain.Handler(&sse.Handler{Broadcaster: &hub, Topics: []string{"news"}}))
	mux.HandleFunc("GET /ready", drain.Ready)
	server := &http.Server{Addr: "localhost:0", Handler: mux, ConnContext: sse.ConnContext}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go server.ListenAndServe()

	stop() // stands for the signal in this example
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	drain.Delay = 0 // there is no load balancer in this example
	if err := drain.Shutdown(ctx); err != nil {
		log.Print("some streams were cut: ", err)
	}
	if err := server.Shutdown(ctx); err != nil {
		log.Print("some requests were cut: ", err)
	}
	fmt.Println("all streams have ended")
	// Output: all streams have ended
}

var secret = []byte("only the server knows")

// sign returns a token for a user that is valid until it expires.
func sign(user string, expires time.Time) string {
	claim := user + "." + strconv.FormatInt(expires.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(claim))
	return claim + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// verify returns the user of the request's token, and when the token expires.
func verify(r *http.Request) (user string, expires time.Time, err error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", time.Time{}, errors.New("no token")
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 64)
	if expires = time.Unix(seconds, 0); err != nil || !hmac.Equal([]byte(sign(parts[0], expires)), []byte(token)) {
		return "", time.Time{}, errors.New("not our token")
	}
	return parts[0], expires, nil
}

// A stream ends when its token expires. Its client comes back: with the old token it is
// refused, and with a new one it resumes.
func ExampleToken() {
	t := new(example) // in a test this is its *testing.T
	defer t.end()

	var hub broadcast.Hub
	token := &middleware.Token{Query: "access_token"}
	news := token.Handler(&sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		user, expires, err := verify(r)
		if err != nil {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized, Err: err}
		}
		return &fanfare.Grant{Topics: []string{"news/" + user}, Expires: expires}, nil
	}})
	connect := func(token string) *ssetest.Stream {
		r := httptest.NewRequest("GET", "/news?access_token="+token, nil)
		r.Header.Set("Accept", "text/event-stream")
		return ssetest.Connect(t, news, r)
	}

	short := sign("ann", time.Now().Add(2*time.Second))
	stream := connect(short)
	fmt.Println(stream.Status())
	stream.End() // within two seconds
	stream.Reconnect()
	fmt.Println(stream.Status())
	fmt.Println(connect(sign("ann", time.Now().Add(time.Hour))).Status())
	fmt.Println(connect("ann.4102444800.forged").Status())
	// Output:
	// 200
	// 401
	// 200
	// 401
}
