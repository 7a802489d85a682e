package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// user is the key of a request in these tests.
func user(r *http.Request) string { return r.FormValue("user") }

// node is one of several servers with a log in common.
type node struct {
	hub      *broadcast.Hub
	journal  *broadcasttest.Journal
	sessions *middleware.Sessions
	events   http.Handler
	sockets  http.Handler
	own      http.Handler
}

// startNode starts a server in a bubble. It ends with the test.
func startNode(t *testing.T, log *broadcasttest.Journal) *node {
	journal := log.Node()
	hub := &broadcast.Hub{Journal: journal, Logger: silent}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); hub.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	s := &middleware.Sessions{Key: user, Broadcaster: hub, Logger: silent}
	return &node{
		hub, journal, s, s.Handler(news(hub)),
		s.Handler(&ws.Handler{Broadcaster: hub, Topics: []string{"news"}, Logger: silent}),
		s.Handler(ownLoop(make(chan error, 100))),
	}
}

// status returns with which status a server answers a user.
func (n *node) status(t *testing.T, user string) int {
	s := ssetest.Connect(t, n.events, get("/?user="+user))
	defer s.Close()
	return s.Status()
}

// closeOf reads until the connection is closed.
func closeOf(t *testing.T, c *ws.Conn) ws.CloseError {
	t.Helper()
	for {
		if _, _, err := c.Read(t.Context()); err != nil {
			var closed *ws.CloseError
			require.ErrorAs(t, err, &closed)
			return *closed
		}
	}
}

// Revoke ends all streams of a key on every server, of each kind, and no others.
func TestRevokeEndsTheStreamsOnAllServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		nodes := []*node{startNode(t, log), startNode(t, log), startNode(t, log)}
		for _, n := range nodes {
			n := n
			events, own := ssetest.Connect(t, n.events, get("/?user=ann")), ssetest.Connect(t, n.own, get("/?user=ann"))
			own.Next()
			socket, other := wstest.Dial(t, n.sockets, get("/?user=ann")), ssetest.Connect(t, n.events, get("/?user=bob"))
			require.Equal(t, 200, other.Status())
			require.Equal(t, 3, n.sessions.Streams("ann"))
			defer func() {
				assert.NoError(t, events.End())
				for range own.All() {
				}
				assert.Equal(t, ws.CloseError{Code: 3003, Reason: "stolen"}, closeOf(t, socket))
				assert.Zero(t, n.sessions.Streams("ann"))
				assert.Equal(t, 1, n.sessions.Streams("bob"), "others go on")
			}()
		}
		require.NoError(t, nodes[0].sessions.Revoke(t.Context(), "ann", "stolen"))
		synctest.Wait()
	})
}

// What is revoked stays out for KeepOut: on each server, on one that starts later, and on
// one that was cut from the log meanwhile.
func TestRevokedStaysOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a, b := startNode(t, log), startNode(t, log)
		a.sessions.KeepOut = time.Minute
		require.Equal(t, 200, b.status(t, "ann"))
		require.NoError(t, a.sessions.Revoke(t.Context(), "ann", ""))
		require.Equal(t, 403, a.status(t, "ann"))
		synctest.Wait()
		for range 3 {
			require.Equal(t, 403, b.status(t, "ann"), "also when it tries again")
		}
		require.Equal(t, 200, b.status(t, "bob"))
		time.Sleep(30 * time.Second)
		c := startNode(t, log)
		require.Equal(t, 403, c.status(t, "ann"))
		time.Sleep(31 * time.Second)
		for _, n := range []*node{a, b, c} {
			require.Equal(t, 200, n.status(t, "ann"), "its time is over")
		}
	})
}

// A server that starts later and has no request for long knows all the same what is revoked.
func TestRevokedStaysOutOfAQuietServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a := startNode(t, log)
		require.NoError(t, a.sessions.Revoke(t.Context(), "ann", ""))
		b := startNode(t, log)
		time.Sleep(30 * time.Minute) // more than Hub.TopicTTL
		require.Equal(t, 403, b.status(t, "ann"))
		require.Equal(t, 200, b.status(t, "bob"))
	})
}

// A server that is cut from the log answers 503: it cannot know what is revoked. It
// knows it when the log is back.
func TestWithoutTheLogNobodyGetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a, b := startNode(t, log), startNode(t, log)
		require.Equal(t, 200, b.status(t, "ann"))
		open := ssetest.Connect(t, b.events, get("/?user=ann"))
		require.Equal(t, 200, open.Status())
		b.journal.Fail(assert.AnError)
		time.Sleep(10 * time.Second)
		require.NoError(t, a.sessions.Revoke(t.Context(), "ann", ""))
		began := time.Now()
		require.Equal(t, 503, b.status(t, "ann"))
		require.Equal(t, 503, b.status(t, "bob"))
		require.Equal(t, 10*time.Second, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, b.sessions.Revoke(ctx, "bob", ""), "revoked on this server, and perhaps not on others")

		late := startNode(t, log)
		late.journal.Fail(assert.AnError)
		require.Equal(t, 503, late.status(t, "ann"), "it has read nothing yet")

		b.journal.Fail(nil)
		late.journal.Fail(nil)
		time.Sleep(time.Minute)
		require.NoError(t, open.End())
		require.Equal(t, 403, b.status(t, "ann"))
		require.Equal(t, 403, b.status(t, "bob"))
		require.Equal(t, 403, late.status(t, "ann"))
	})
}

// Revoke while a client connects ends its stream: none gets past it, on any server.
func TestRevokeWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(broadcasttest.Journal)
		a, b := startNode(t, log), startNode(t, log)
		require.Equal(t, 200, b.status(t, "nobody"))
		var began atomic.Int64
		slow := b.sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began.Add(1)
			time.Sleep(time.Duration(began.Load()%7) * time.Millisecond)
			news(b.hub).ServeHTTP(w, r)
		}))
		var streams []*ssetest.Stream
		for i := range 200 {
			if i == 100 {
				go func() { assert.NoError(t, a.sessions.Revoke(context.Background(), "ann", "")) }()
			}
			streams = append(streams, ssetest.Connect(t, slow, get("/?user=ann")))
			time.Sleep(100 * time.Microsecond)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		require.Zero(t, b.sessions.Streams("ann"))
		refused := 0
		for _, s := range streams {
			if s.Status() == 403 {
				refused++
			} else {
				require.NoError(t, s.End())
			}
		}
		require.Greater(t, refused, 50)
		require.Less(t, refused, 110)
	})
}

// Without a Broadcaster a key is revoked on its server.
func TestRevokeOnOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &middleware.Sessions{Key: user, Logger: silent}
		h := s.Handler(news(new(broadcast.Hub)))
		open := ssetest.Connect(t, h, get("/?user=ann"))
		require.Equal(t, 200, open.Status())
		require.NoError(t, s.Revoke(t.Context(), "ann", "stolen"))
		require.NoError(t, open.End())
		require.Equal(t, 403, ssetest.Connect(t, h, get("/?user=ann")).Status())
		require.Equal(t, 200, ssetest.Connect(t, h, get("/?user=bob")).Status())
		time.Sleep(time.Hour + time.Second)
		require.Equal(t, 200, ssetest.Connect(t, h, get("/?user=ann")).Status())
	})
}

// With Max a key has no more streams than that: the newest is refused, or the oldest ends.
func TestSessionsMax(t *testing.T) {
	for _, oldest := range []bool{false, true} {
		t.Run(fmt.Sprint(oldest), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := new(broadcast.Hub)
				s := &middleware.Sessions{Key: user, Max: 2, EndOldest: oldest, Logger: silent}
				h := s.Handler(&ws.Handler{Broadcaster: hub, Topics: []string{"news"}, Logger: silent})
				first, second := wstest.Dial(t, h, get("/?user=ann")), wstest.Dial(t, h, get("/?user=ann"))
				require.Equal(t, 200, ssetest.Connect(t, s.Handler(news(hub)), get("/?user=bob")).Status(), "another key")
				third := ssetest.Connect(t, s.Handler(news(hub)), get("/?user=ann"))
				if !oldest {
					require.Equal(t, 429, third.Status())
					return
				}
				require.Equal(t, 200, third.Status())
				require.Equal(t, ws.CloseError{Code: 3003, Reason: "too many streams"}, closeOf(t, first))
				require.Equal(t, 2, s.Streams("ann"))
				second.Close(1000, "")
				synctest.Wait()
				require.Equal(t, 1, s.Streams("ann"))
			})
		})
	}
}

// A client whose connections have vanished gets in at once where the oldest ends.
func TestNobodyIsLockedOutByVanishedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &middleware.Sessions{Key: user, Max: 2, EndOldest: true, Logger: silent}
		h := s.Handler(news(new(broadcast.Hub)))
		for range 20 {
			var link faults.Link
			require.Equal(t, 200, ssetest.Connect(t, h, faults.Via(get("/?user=ann"), &link)).Status())
			link.Vanish()
		}
		require.Equal(t, 2, s.Streams("ann"))
		time.Sleep(time.Minute)
		require.Zero(t, s.Streams("ann"))
		_, open := s.Known()
		require.Zero(t, open, "nothing is left")
	})
}

// Fields that make no sense are errors that name them, and refuse every request.
func TestSessionsWithInvalidFields(t *testing.T) {
	for _, s := range []*middleware.Sessions{{Max: -1, Logger: silent}, {KeepOut: -1, Logger: silent}} {
		w := httptest.NewRecorder()
		s.Handler(news(new(broadcast.Hub))).ServeHTTP(w, get("/"))
		require.Equal(t, 500, w.Code)
		require.ErrorContains(t, s.Revoke(t.Context(), "ann", ""), "must not be negative")
	}
}

// Keys that were revoked are forgotten when their time is over.
func TestRevokedKeysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &middleware.Sessions{Key: user, KeepOut: time.Minute, Logger: silent}
		for i := range 10_000 {
			require.NoError(t, s.Revoke(t.Context(), fmt.Sprint(i), ""))
			time.Sleep(time.Minute / 1000)
		}
		revoked, _ := s.Known()
		require.LessOrEqual(t, revoked, 4000)
	})
}

// What is in the log names no key: it may be a secret.
func TestNoKeyIsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(broadcast.Hub)
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"fanfare/sessions"}})
		require.NoError(t, err)
		defer sub.Close()
		s := &middleware.Sessions{Broadcaster: hub, Logger: silent}
		require.NoError(t, s.Revoke(t.Context(), "the-session-id", "stolen"))
		buf := make([]*broadcast.Message, 2)
		n, err := sub.Poll(buf)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.NotContains(t, fmt.Sprintf("%+v %s", buf[0], buf[0].Data), "the-session-id")
	})
}
