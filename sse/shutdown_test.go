package sse_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/sse"
)

// Server.Shutdown ends the streams that came in through that server, and no others.
func TestShutdownEndsTheStreamsOfItsOwnServer(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
	serve(t, h, func(t *testing.T, one *network) {
		listener := memnet.Listen()
		other := &network{t: t, listener: listener, server: &http.Server{Handler: h}, transport: &http.Transport{DialContext: listener.DialContext}}
		go other.server.Serve(listener)
		defer other.server.Close()
		defer other.transport.CloseIdleConnections()
		s, same, left := one.get("/"), one.get("/"), other.get("/")
		s.expectBegin()
		same.expectBegin()
		left.expectBegin()
		require.NoError(t, one.server.Shutdown(t.Context()))
		s.expectEnd()
		same.expectEnd()
		require.True(t, left.open())
		id := publish(t, &hub, "a", "x")
		left.expect(tick(id, "x"))
		require.NoError(t, other.server.Shutdown(t.Context()))
		left.expectEnd()
	})
}

// A stream whose Grant returns after Server.Shutdown was called ends, too.
func TestShutdownEndsAStreamThatIsBeingGranted(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		time.Sleep(100 * time.Millisecond)
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		go func() {
			time.Sleep(50 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			assert.NoError(t, n.server.Shutdown(ctx), "Shutdown")
		}()
		s := n.get("/")
		time.Sleep(2 * time.Hour)
		assert.False(t, s.open())
	})
}

// Where a Subscription has no Finish, a stream that is to end sends what one last Poll
// returns.
func TestShutdownPollsOnceMore(t *testing.T) {
	e := &neverIdle{}
	serve(t, &sse.Handler{Broadcaster: e, Topics: []string{"a"}, Logger: silent}, func(t *testing.T, n *network) {
		s := n.get("/")
		time.Sleep(1050 * time.Millisecond) // in the middle of a Poll
		before := e.polls.Load()
		at := time.Now()
		assert.NoError(t, n.server.Shutdown(t.Context()))
		_, err := s.rest()
		t.Logf("%d polls after Shutdown, took %v, %v", e.polls.Load()-before, time.Since(at), err)
		assert.NoError(t, err)
		assert.LessOrEqual(t, e.polls.Load()-before, int64(2))
	})
}

// The end of a response is written although the deadline of the stream's last write has long
// passed.
func TestEndOfAnIdleStreamIsWritten(t *testing.T) {
	b := &finishes{scripted: scripted{begin: broadcast.MakeID(2, 1)}}
	h := &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: silent, Options: sse.Options{Heartbeat: -1}}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		s.expect("retry: 3000\nid: 2-1\n\n")
		time.Sleep(time.Minute)
		go n.server.Shutdown(t.Context())
		s.expectEnd()
		time.Sleep(time.Minute) // what ended it is through as well
	})
}

// finishes is a Broadcaster whose subscription can finish, and takes its time for
// it.
type finishes struct{ scripted }

func (f *finishes) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	_, err := f.scripted.Subscribe(ctx, o)
	return f, err
}

func (f *finishes) Finish() {
	f.returns(pollResult{err: broadcast.ErrClosed})
	time.Sleep(time.Second)
}
