package ws_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// changing is a Handler whose Grant has what first returns, and whose Change grants all
// topics but "secret".
func changing(hub *broadcast.Hub, detach bool, first func(*http.Request) []string) *ws.Handler {
	var change func(topics []string) (*fanfare.Grant, error)
	change = func(topics []string) (*fanfare.Grant, error) {
		if slices.Contains(topics, "secret") {
			return nil, &fanfare.Refusal{Status: 403}
		}
		return &fanfare.Grant{Topics: topics, Change: change}, nil
	}
	return &ws.Handler{Broadcaster: hub, Logger: silent, Detach: detach, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: first(r), Change: change}, nil
	}}
}

// breakable lets a Client's connection be cut.
func (n *network) breakable() (cut func()) {
	var open atomic.Pointer[net.Conn]
	n.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := n.listener.DialContext(ctx, network, address)
		open.Store(&c)
		return c, err
	}}
	return func() { (*open.Load()).Close() }
}

// yields collects what Messages yields, as text, until the context ends.
func yields(ctx context.Context, c *ws.Client) <-chan string {
	got := make(chan string, 1000)
	go func() {
		defer close(got)
		for m, err := range c.Messages(ctx) {
			var gap *broadcast.GapError
			switch {
			case errors.As(err, &gap):
				got <- fmt.Sprint("gap ", gap.Topics)
			case err != nil:
				got <- err.Error()
			default:
				got <- m.Topic + " " + string(m.Data)
			}
		}
	}()
	return got
}

// take returns what was yielded so far.
func take(got <-chan string) (texts []string) {
	synctest.Wait()
	for len(got) > 0 {
		texts = append(texts, <-got)
	}
	return texts
}

// A Client that reconnects has the topics that it was granted: it gets what was published
// there meanwhile, or a gap where its connection has them from a later position.
func TestClientKeepsItsTopics(t *testing.T) {
	for name, test := range map[string]struct {
		first func(*http.Request) []string
		back  []string // after a cut, during which b1 and b2 were published, and a1
	}{
		"a Grant that reads the request": {func(r *http.Request) []string {
			if topics := r.URL.Query()["topic"]; len(topics) > 0 {
				return topics
			}
			return []string{"a"}
		}, []string{"b b1", "b b2"}},
		"a Grant without topics":      {func(*http.Request) []string { return nil }, []string{"b b1", "b b2"}},
		"a Grant with its own topics": {func(*http.Request) []string { return []string{"a"} }, []string{"a a1", "gap [b]"}},
	} {
		for _, detach := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detached %v", name, detach), func(t *testing.T) {
				hub := &broadcast.Hub{}
				serve(t, changing(hub, detach, test.first), func(t *testing.T, n *network) {
					cut := n.breakable()
					c := n.follow("/?room=1")
					ctx, cancel := context.WithCancel(t.Context())
					got := yields(ctx, c)
					synctest.Wait()
					require.NoError(t, c.SetTopics(ctx, []string{"b"}))
					synctest.Wait()
					say(t, hub, "b", "b0")
					require.Equal(t, []string{"b b0"}, take(got))
					for range 2 {
						cut()
						synctest.Wait()
						say(t, hub, "b", "b1")
						say(t, hub, "a", "a1")
						say(t, hub, "b", "b2")
						time.Sleep(10 * time.Second)
						back := take(got)
						if n := len(test.back); len(back) == n+1 && test.back[n-1] == "gap [b]" && back[n] == "b b2" {
							back = back[:n] // the stream had not polled beyond a1 when it got the request
						}
						require.Equal(t, test.back, back)
						say(t, hub, "b", "b3")
						say(t, hub, "c", "not for it")
						require.Equal(t, []string{"b b3"}, take(got))
					}
					cancel()
					synctest.Wait()
				})
			})
		}
	}
}

// A change that is refused is yielded, once. The client has the topics that it had, now
// and after it reconnects.
func TestClientYieldsARefusedChange(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, changing(hub, true, func(*http.Request) []string { return []string{"a"} }), func(t *testing.T, n *network) {
		cut := n.breakable()
		c := n.follow("/")
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, c.SetTopics(ctx, []string{"b"}), "before there is a connection")
		got := yields(ctx, c)
		synctest.Wait()
		require.NoError(t, c.SetTopics(ctx, []string{"b", "secret"}))
		require.Equal(t, []string{(&ws.TopicsError{Topics: []string{"b", "secret"}, Status: 403}).Error()}, take(got))
		say(t, hub, "b", "still")
		require.Equal(t, []string{"b still"}, take(got))
		cut()
		time.Sleep(10 * time.Second)
		say(t, hub, "b", "again")
		require.Equal(t, []string{"b again"}, take(got))
		cancel()
		synctest.Wait()
	})
}

// What cannot be asked for is an error at once; the Messages of a loop that calls
// SetTopics goes on.
func TestClientSetTopics(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, changing(hub, false, func(*http.Request) []string { return []string{"a"} }), func(t *testing.T, n *network) {
		c := n.follow("/")
		require.ErrorContains(t, c.SetTopics(t.Context(), slices.Repeat([]string{"x"}, 1001)), "at most 1000")
		require.ErrorContains(t, c.SetTopics(t.Context(), []string{"\xff"}), "UTF-8")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, c.SetTopics(ended, []string{"b"}), context.Canceled)
		go func() {
			synctest.Wait()
			say(t, hub, "a", "go")
		}()
		var got []string
		for m, err := range c.Messages(t.Context()) {
			require.NoError(t, err)
			got = append(got, string(m.Data))
			if m.Topic == "z" {
				break
			}
			for i := range 100 { // only the latest counts
				require.NoError(t, c.SetTopics(t.Context(), []string{fmt.Sprint("b", i)}))
			}
			require.NoError(t, c.SetTopics(t.Context(), []string{"z"}))
			go func() {
				time.Sleep(time.Second)
				say(t, hub, "a", "not any more")
				say(t, hub, "b99", "nor this")
				say(t, hub, "z", "this")
			}()
		}
		require.Equal(t, []string{"go", "this"}, got)
		synctest.Wait()
	})
}

// A Client may leave all topics, where the Grant has a Change, and get some again.
func TestClientWithoutTopics(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, changing(hub, false, func(*http.Request) []string { return nil }), func(t *testing.T, n *network) {
		c := n.follow("/")
		ctx, cancel := context.WithCancel(t.Context())
		got := yields(ctx, c)
		for _, topics := range [][]string{{"a"}, {}, {"b"}, nil, {"a", "b"}} {
			synctest.Wait()
			require.NoError(t, c.SetTopics(ctx, topics))
			synctest.Wait()
			var want []string
			for _, topic := range []string{"a", "b"} {
				say(t, hub, topic, "x")
				if slices.Contains(topics, topic) {
					want = append(want, topic+" x")
				}
			}
			require.Equal(t, want, take(got))
			time.Sleep(time.Minute) // positions
		}
		cancel()
		synctest.Wait()
	})
}
