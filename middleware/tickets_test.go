package middleware_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// issue gets a ticket for a user.
func issue(t testing.TB, tickets *middleware.Tickets, user string) string {
	t.Helper()
	h := tickets.Issue(func(*http.Request) (string, error) { return user, nil })
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/ticket", nil))
	require.Equal(t, 200, w.Code)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var answer struct{ Ticket string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.NotEmpty(t, answer.Ticket)
	return answer.Ticket
}

// redeem sends a request, and returns the status and whose ticket it was.
func redeem(tickets *middleware.Tickets, r *http.Request) (status int, identity string) {
	w := httptest.NewRecorder()
	tickets.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		identity = middleware.Identity(r.Context())
	})).ServeHTTP(w, r)
	return w.Code, identity
}

var shared = bytes.Repeat([]byte("s"), 32)

// ticketNode starts a server that shares a log and a secret with others, in a bubble.
func ticketNode(t *testing.T, log *broadcasttest.Journal) (*middleware.Tickets, *node) {
	n := startNode(t, log)
	return &middleware.Tickets{Secret: shared, Broadcaster: n.hub, Logger: silent}, n
}

// A ticket lets its user in, from the URL or a subprotocol, and what is inside does not see it.
func TestTicketIsRedeemedAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(broadcast.Hub)
		tickets := &middleware.Tickets{Logger: silent}
		var seen []string
		note := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.ParseForm()
				seen = append(seen, fmt.Sprint(r.URL, r.RequestURI, r.Header, r.Form, *r.URL))
				next.ServeHTTP(w, r)
			})
		}
		grant := func(r *http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"users/" + middleware.Identity(r.Context())}}, nil
		}
		events := tickets.Handler(note(&sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent}))
		sockets := tickets.Handler(note(&ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent, Encode: ws.Raw, Options: ws.Options{Subprotocols: []string{"chat.v1"}}}))
		first, second, third := issue(t, tickets, "ann"), issue(t, tickets, "ann"), issue(t, tickets, "ann")
		s := ssetest.Connect(t, events, get("/?room=1&ticket="+first))
		c := wstest.Dial(t, sockets, get("/?ticket="+second))
		r := get("/")
		r.Header.Set("Sec-WebSocket-Protocol", "chat.v1, ticket."+third)
		d := wstest.Dial(t, sockets, r)
		require.Equal(t, 200, s.Status())
		require.Equal(t, "chat.v1", d.Subprotocol())
		synctest.Wait()
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "users/ann", Data: []byte("hi")})
		require.NoError(t, err)
		require.Equal(t, "hi", string(s.Next().Data))
		for _, c := range []*ws.Conn{c, d} {
			_, data, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, "hi", string(data))
		}
		require.Len(t, seen, 3)
		for _, ticket := range []string{first, second, third, "ticket"} {
			require.NotContains(t, fmt.Sprint(seen), ticket)
		}
		require.Contains(t, seen[0], "/?room=1", "the rest is kept")
	})
}

// Whatever is no ticket of this service that is still valid is refused, and never named in the
// log.
func TestTicketsThatAreNotValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tickets := &middleware.Tickets{Logger: slog.New(slog.NewJSONHandler(&log, nil))}
		good, other := issue(t, tickets, "ann"), issue(t, tickets, "bob")
		used := issue(t, tickets, "ann")
		status, identity := redeem(tickets, get("/?ticket="+used))
		require.Equal(t, 200, status)
		require.Equal(t, "ann", identity)
		expired := issue(t, &middleware.Tickets{TTL: 1, Logger: silent}, "ann")
		withHeader := func(name, value string) *http.Request {
			r := get("/")
			r.Header.Set(name, value)
			return r
		}
		form := httptest.NewRequest("POST", "/", strings.NewReader("ticket="+good))
		form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for name, test := range map[string]struct {
			r    *http.Request
			want int
		}{
			"none":                    {get("/"), 401},
			"empty":                   {get("/?ticket="), 401},
			"used":                    {get("/?ticket=" + used), 401},
			"expired":                 {get("/?ticket=" + expired), 401},
			"of another server":       {get("/?ticket=" + issue(t, new(middleware.Tickets), "ann")), 401},
			"for another purpose":     {get("/?ticket=" + issue(t, &middleware.Tickets{Topic: "other"}, "ann")), 401},
			"of 16 KB":                {get("/?ticket=" + strings.Repeat("a", 16<<10)), 401},
			"not base64":              {get("/?ticket=" + good[:20] + "*" + good[21:]), 401},
			"not a query":             {get("/?ticket=%zz"), 401},
			"with another end":        {get("/?ticket=" + good[:len(good)-4] + "AAAA"), 401},
			"cut":                     {get("/?ticket=" + good[:30]), 401},
			"padded":                  {get("/?ticket=" + good + "="), 401},
			"ann's head, bob's rest":  {get("/?ticket=" + good[:22] + other[22:]), 401},
			"two":                     {get("/?ticket=" + good + "&ticket=" + other), 400},
			"in the path":             {get("/" + issue(t, tickets, "ann")), 401},
			"in another parameter":    {get("/?token=" + good), 401},
			"in Authorization":        {withHeader("Authorization", "Bearer "+good), 401},
			"in a cookie":             {withHeader("Cookie", "ticket="+good), 401},
			"in Referer":              {withHeader("Referer", "https://a/?ticket="+good), 401},
			"in a subprotocol's name": {withHeader("Sec-WebSocket-Protocol", good), 401},
			"in the body":             {form, 401},
		} {
			status, identity := redeem(tickets, test.r)
			assert.Equal(t, test.want, status, name)
			assert.Empty(t, identity, name)
		}
		synctest.Wait()
		require.NotEmpty(t, log.String())
		for _, ticket := range []string{good[:20], used, expired, "aaaaaaaaa"} {
			require.NotContains(t, log.String(), ticket)
		}
		status, identity = redeem(tickets, get("/?ticket="+good))
		require.Equal(t, 200, status, "it was not redeemed yet")
		require.Equal(t, "ann", identity)
		r := get("/?ticket=" + other)
		r.Header.Set("Cookie", "user=ann")
		_, identity = redeem(tickets, r)
		require.Equal(t, "bob", identity, "whose ticket it is says the ticket alone")
	})
}

// A ticket is valid for its TTL.
func TestTicketTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := &middleware.Tickets{Logger: silent}
		a, b := issue(t, tickets, "ann"), issue(t, tickets, "ann")
		time.Sleep(29 * time.Second)
		status, _ := redeem(tickets, get("/?ticket="+a))
		require.Equal(t, 200, status)
		time.Sleep(time.Second)
		status, _ = redeem(tickets, get("/?ticket="+b))
		require.Equal(t, 401, status)
	})
}

// A ticket that is redeemed twice at the same time gets one stream, on one server and on two.
func TestTicketTwiceAtTheSameTime(t *testing.T) {
	for servers := 1; servers <= 2; servers++ {
		t.Run(fmt.Sprintf("%d servers", servers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(broadcasttest.Journal)
				nodes := []*middleware.Tickets{{Logger: silent}}
				if servers == 2 {
					a, na := ticketNode(t, log)
					b, nb := ticketNode(t, log)
					na.journal.Delay(time.Millisecond)
					nb.journal.Delay(3 * time.Millisecond)
					nodes = []*middleware.Tickets{a, b}
				}
				byServer := make([]atomic.Int32, len(nodes))
				for i := range 1000 {
					ticket := issue(t, nodes[i%len(nodes)], "ann")
					var won atomic.Int32
					var all sync.WaitGroup
					for try := range 4 {
						all.Go(func() {
							at := (i + try) % len(nodes)
							if status, _ := redeem(nodes[at], get("/?ticket="+ticket)); status == 200 {
								won.Add(1)
								byServer[at].Add(1)
							} else {
								assert.Equal(t, 401, status)
							}
						})
					}
					all.Wait()
					require.EqualValues(t, 1, won.Load(), i)
				}
				for i := range byServer {
					require.NotZero(t, byServer[i].Load(), "the race was one")
				}
				require.LessOrEqual(t, nodes[0].Known(), 1100)
			})
		})
	}
}

// A ticket of one server is redeemed by another, and by none a second time, also after a
// restart.
func TestTicketOnAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a, _ := ticketNode(t, log)
		b, _ := ticketNode(t, log)
		ticket := issue(t, a, "ann")
		status, identity := redeem(b, get("/?ticket="+ticket))
		require.Equal(t, 200, status)
		require.Equal(t, "ann", identity)
		restarted, _ := ticketNode(t, log)
		for _, n := range []*middleware.Tickets{a, b, restarted} {
			status, _ = redeem(n, get("/?ticket="+ticket))
			require.Equal(t, 401, status)
		}
		stranger := &middleware.Tickets{Secret: bytes.Repeat([]byte("x"), 32), Broadcaster: new(broadcast.Hub), Logger: silent}
		status, _ = redeem(stranger, get("/?ticket="+issue(t, a, "ann")))
		require.Equal(t, 401, status, "it has another secret")
	})
}

// Without the log no ticket is redeemed, and one that may have been is not redeemed later.
func TestTicketsWithoutTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a, na := ticketNode(t, log)
		a.TTL = time.Hour
		ticket, unused := issue(t, a, "ann"), issue(t, a, "ann")
		_, _ = redeem(a, get("/?ticket="+issue(t, a, "ann")))
		na.journal.Refuse(func(broadcast.Message) error { return errors.New("full") })
		status, _ := redeem(a, get("/?ticket="+ticket))
		require.Equal(t, 503, status)
		na.journal.Refuse(nil)
		status, _ = redeem(a, get("/?ticket="+ticket))
		require.Equal(t, 401, status)

		na.journal.Fail(assert.AnError)
		time.Sleep(10 * time.Second)
		status, _ = redeem(a, get("/?ticket="+unused))
		require.Equal(t, 503, status)
		na.journal.Fail(nil)
		time.Sleep(time.Minute)
		status, _ = redeem(a, get("/?ticket="+unused))
		require.Equal(t, 200, status, "it was not redeemed")
	})
}

// Where a part of the log is lost, tickets that were issued before are not redeemed: they may
// have been.
func TestTicketsAfterALossInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a, _ := ticketNode(t, log)
		b, _ := ticketNode(t, log)
		a.TTL = time.Hour
		ticket := issue(t, a, "ann")
		status, _ := redeem(a, get("/?ticket="+ticket))
		require.Equal(t, 200, status)
		status, _ = redeem(b, get("/?ticket="+issue(t, a, "ann")))
		require.Equal(t, 200, status)
		unused := issue(t, a, "ann")
		time.Sleep(time.Second)
		log.Recreate()
		time.Sleep(time.Minute)
		late, _ := ticketNode(t, log)
		status, _ = redeem(b, get("/?ticket="+unused))
		require.Equal(t, 401, status)
		status, _ = redeem(b, get("/?ticket="+ticket))
		require.Equal(t, 401, status)
		status, _ = redeem(late, get("/?ticket="+issue(t, a, "ann")))
		require.Equal(t, 200, status)
	})
}

// A client that reconnects a hundred times, each time with a fresh ticket, loses nothing.
func TestReconnectsWithFreshTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a, na := ticketNode(t, log)
		b, nb := ticketNode(t, log)
		handlers := []http.Handler{a.Handler(news(na.hub)), b.Handler(news(nb.hub))}
		last := ""
		for i := range 100 {
			r := get("/?ticket=" + issue(t, a, "ann"))
			r.Header.Set("Last-Event-ID", last)
			s := ssetest.Connect(t, handlers[i%2], r)
			require.Equal(t, 200, s.Status())
			if i == 0 {
				synctest.Wait()
				publish(t, na.hub, "0")
			}
			e := s.Next()
			require.Equal(t, fmt.Sprint(i), string(e.Data))
			last = e.ID
			s.Close()
			publish(t, nb.hub, fmt.Sprint(i+1))
		}
	})
}

// Issue answers a POST of an authenticated user, and nobody else.
func TestIssueRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		tickets  *middleware.Tickets
		method   string
		identity string
		err      error
		want     int
	}{
		"a GET":            {new(middleware.Tickets), "GET", "ann", nil, 405},
		"nobody":           {new(middleware.Tickets), "POST", "", nil, 401},
		"a refusal":        {new(middleware.Tickets), "POST", "", &fanfare.Refusal{Status: 403}, 403},
		"an error":         {new(middleware.Tickets), "POST", "", context.Canceled, 500},
		"a long identity":  {new(middleware.Tickets), "POST", strings.Repeat("a", 1025), nil, 500},
		"no UTF-8":         {new(middleware.Tickets), "POST", "\xff", nil, 500},
		"a negative TTL":   {&middleware.Tickets{TTL: -1}, "POST", "ann", nil, 500},
		"a short secret":   {&middleware.Tickets{Secret: []byte("x")}, "POST", "ann", nil, 500},
		"no Broadcaster":   {&middleware.Tickets{Secret: shared}, "POST", "ann", nil, 500},
		"no secret":        {&middleware.Tickets{Broadcaster: new(broadcast.Hub)}, "POST", "ann", nil, 500},
		"the longest name": {new(middleware.Tickets), "POST", strings.Repeat("\x01", 1024), nil, 200},
	} {
		t.Run(name, func(t *testing.T) {
			test.tickets.Logger = silent
			w := httptest.NewRecorder()
			h := test.tickets.Issue(func(*http.Request) (string, error) { return test.identity, test.err })
			h.ServeHTTP(w, httptest.NewRequest(test.method, "/ticket", nil))
			require.Equal(t, test.want, w.Code)
			if test.want == 200 {
				var answer struct{ Ticket string }
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
				status, identity := redeem(test.tickets, get("/?ticket="+answer.Ticket))
				require.Equal(t, 200, status)
				require.Equal(t, test.identity, identity)
			}
			if test.want == 500 && test.identity == "ann" {
				status, _ := redeem(test.tickets, get("/?ticket=a"))
				require.Equal(t, 500, status)
			}
		})
	}
}
