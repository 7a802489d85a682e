package ws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

func (n *network) follow(target string) *ws.Client {
	return &ws.Client{URL: "ws://memory" + target, Dial: ws.DialOptions{HTTPClient: n.client}, Logger: silent}
}

// A Client yields each message once, or a gap where it was lost: over connections that
// are cut, from a Hub whose ring is overrun once.
func TestClientYieldsEachMessageOnce(t *testing.T) {
	hub := &broadcast.Hub{Keep: 64}
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
	serve(t, h, func(t *testing.T, n *network) {
		const messages = 400
		var open atomic.Pointer[net.Conn]
		n.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := n.listener.DialContext(ctx, network, address)
			open.Store(&c)
			return c, err
		}}
		c := n.follow("/?room=1")
		c.After = broadcastID(t, position(t, hub))
		begin := c.After.Seq()
		var publishing sync.WaitGroup
		publishing.Go(func() {
			for i := range messages {
				_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: "x", Binary: i%5 == 0, Data: []byte{byte(i % 100)}[:i%2]})
				require.NoError(t, err)
				time.Sleep(20 * time.Millisecond)
				if i%30 == 7 {
					(*open.Load()).Close()
				}
				if i == 200 { // more than is kept, while there is no connection
					(*open.Load()).Close()
					for range 200 {
						say(t, hub, "a", "lost, most of them")
					}
				}
			}
		})
		seen, gaps := begin, 0
		for m, err := range c.Messages(t.Context()) {
			var gap *broadcast.GapError
			if errors.As(err, &gap) {
				gaps++
				require.Greater(t, gap.ID.Seq(), seen)
				seen = gap.ID.Seq()
				continue
			}
			require.NoError(t, err)
			require.Equal(t, seen+1, m.ID.Seq())
			require.Equal(t, "a", m.Topic)
			seen = m.ID.Seq()
			if m.Binary {
				require.LessOrEqual(t, len(m.Data), 1)
			}
			if seen == begin+messages+200 {
				break
			}
		}
		require.Equal(t, 1, gaps)
		require.Equal(t, seen, c.Position().Seq())
		publishing.Wait()

		// Another range goes on where this one ended.
		id := say(t, hub, "a", "more")
		for m, err := range c.Messages(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, id, m.ID.String())
			break
		}
	})
}

func broadcastID(t *testing.T, text string) broadcast.ID {
	t.Helper()
	id, err := broadcast.ParseID(text)
	require.NoError(t, err)
	return id
}

// Send waits for a connection, and sends over the one of Messages.
func TestClientSend(t *testing.T) {
	hub := &broadcast.Hub{}
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent, Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
		return func(_ ws.MessageType, data []byte) error {
			if string(data) == "bye" {
				return io.EOF
			}
			_, err := hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: data})
			return err
		}
	}}
	serve(t, h, func(t *testing.T, n *network) {
		c := n.follow("/")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Send(ctx, ws.Text, []byte("to nobody")), context.DeadlineExceeded)
		var got []string
		var sender sync.WaitGroup
		sender.Go(func() {
			require.NoError(t, c.Send(t.Context(), ws.Text, []byte("hello")), "it waits for the connection")
			require.Error(t, c.Send(t.Context(), ws.Text, []byte("\xff")))
			time.Sleep(time.Second)
			require.NoError(t, c.Send(t.Context(), ws.Text, []byte("bye")))
		})
		for m, err := range c.Messages(t.Context()) {
			require.NoError(t, err, "1000 is the end, without an error")
			got = append(got, string(m.Data))
			for _, err := range c.Messages(t.Context()) {
				require.ErrorContains(t, err, "another Messages")
			}
		}
		require.Equal(t, []string{"hello"}, got)
		sender.Wait()
	})
}

// sends returns a Handler that sends these texts.
func sends(texts ...string) http.Handler {
	return upgraded(nil, func(c *ws.Conn) {
		for _, text := range texts {
			_ = c.Write(context.Background(), ws.Text, []byte(text))
		}
		_, _, _ = c.Read(context.Background())
	})
}

// A Client connects again after whatever may pass, and Messages ends with what will not.
func TestClientConnectsAgainUnlessAnErrorIsFinal(t *testing.T) {
	closes := func(code ws.StatusCode) http.Handler {
		return upgraded(nil, func(c *ws.Conn) {
			_ = c.Write(context.Background(), ws.Text, []byte(`{"ready":"1f-1"}`))
			_ = c.Close(code, "why")
		})
	}
	for _, test := range []struct {
		name  string
		bad   http.Handler
		final string // part of the error; "": it goes on
		least time.Duration
	}{
		{"500", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }), "", 0},
		{"503", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }), "", 0},
		{"503 for a while", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(503)
		}), "", 20 * time.Second},
		{"no answer", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "", 30 * time.Second},
		{"a page", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "<html>") }), "", 0},
		{"401", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }), "status 401", 0},
		{"404", http.NotFoundHandler(), "status 404", 0},
		{"1001", closes(1001), "", 0},
		{"1012", closes(1012), "", 0},
		{"1013", closes(1013), "", 5 * time.Second},
		{"3000", closes(3000), "", 0},
		{"4000", closes(4000), "", 0},
		{"1008", closes(1008), "status 1008", 0},
		{"3003", closes(3003), "status 3003", 0},
		{"3999", closes(3999), "status 3999", 0},
		{"4500", closes(4500), "status 4500", 0},
		{"no envelope", sends(`hello`), "envelopes", 0},
		{"another JSON", sends(`{"hello":1}`), "envelopes", 0},
		{"base64 that is none", sends(`{"id":"1f-2","topic":"a","data":"?","encoding":"base64"}`), "envelopes", 0},
		{"an ID that is none", sends(`{"id":"?","topic":"a","data":"x"}`), "envelopes", 0},
		{"too large", sends(`{"topic":"a","data":"` + strings.Repeat("x", 2<<20) + `"}`), "status 1009", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := &broadcast.Hub{}
			good := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
			var requests atomic.Int32
			var at [2]time.Time
			serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				k := requests.Add(1)
				if k <= 2 {
					at[k-1] = time.Now()
				}
				if k == 1 {
					test.bad.ServeHTTP(w, r)
					return
				}
				good.ServeHTTP(w, r)
			}), func(t *testing.T, n *network) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var last error
				for _, err := range n.follow("/").Messages(ctx) {
					last = err
					if errors.Is(err, broadcast.ErrGap) { // 1f-1 is of another Hub
						break
					}
				}
				if test.final != "" {
					require.ErrorContains(t, last, test.final)
					require.EqualValues(t, 1, requests.Load())
					return
				}
				require.EqualValues(t, 2, requests.Load())
				require.GreaterOrEqual(t, at[1].Sub(at[0]), test.least)
				require.LessOrEqual(t, at[1].Sub(at[0]), test.least+11*time.Second)
				synctest.Wait()
			})
		})
	}
}

// Retry makes an error that is final by default one after which the Client connects
// again.
func TestRetryOverridesAFinalError(t *testing.T) {
	var requests atomic.Int32
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.WriteHeader(401)
	}), func(t *testing.T, n *network) {
		c := n.follow("/")
		c.MaxBackoff = time.Second
		c.Retry = func(err error) bool {
			var refused *ws.HandshakeError
			return errors.As(err, &refused) && refused.Status == 401
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, err := range c.Messages(ctx) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Greater(t, requests.Load(), int32(50))
	})
}

// A field that cannot be used is named by the only error of Messages.
func TestClientNamesAnInvalidField(t *testing.T) {
	for field, c := range map[string]*ws.Client{
		"Client.URL":        {URL: "ws://\x00"},
		"Client.MaxBackoff": {URL: "ws://localhost", MaxBackoff: -1},
	} {
		yielded := 0
		for _, err := range c.Messages(t.Context()) {
			require.ErrorContains(t, err, field)
			yielded++
		}
		require.Equal(t, 1, yielded)
	}
}

func ExampleClient() {
	var hub broadcast.Hub
	server := httptest.NewServer(&ws.Handler{Broadcaster: &hub, Topics: []string{"prices"}})
	defer server.Close()
	defer hub.Close()

	position, _ := hub.Position(context.Background())
	hub.Publish(context.Background(), broadcast.Message{Topic: "prices", Type: "tick", Data: []byte("42")})

	client := ws.Client{URL: server.URL, After: position} // from before the message
	for message, err := range client.Messages(context.Background()) {
		if err != nil {
			panic(err)
		}
		fmt.Println(message.Topic, message.Type, string(message.Data))
		break // or go on: it reconnects, and misses nothing
	}
	// Output:
	// prices tick 42
}
