package sse_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A Snapshot that fails after a gap ends the stream. The client resumes from its old position,
// and gets the gap again.
func TestFailedSnapshotAfterAGapEndsTheStream(t *testing.T) {
	log := &logbook{}
	b := &scripted{begin: broadcast.MakeID(2, 1)}
	calls := 0
	h := &sse.Handler{Broadcaster: b, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
			if calls++; calls == 1 {
				return nil, nil
			}
			return nil, errors.New("no state any more")
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		require.Equal(t, "retry: 3000\nevent: begin\nid: 1-0\ndata: {\"begin\":\"1-0\"}\n\nid: 2-1\n\n", s.received())
		b.returns(pollResult{messages: []broadcast.Message{{ID: broadcast.MakeID(2, 2), Topic: "a", Data: []byte("x")}}})
		s.expect("id: 2-2\ndata: x\n\n")
		b.returns(pollResult{err: &broadcast.GapError{ID: broadcast.MakeID(2, 8)}, position: broadcast.MakeID(2, 8)})
		s.expectEnd() // it resumes after 2-2, and gets the gap again
		synctest.Wait()
		require.Equal(t, 2, calls)
		require.Len(t, log.with("ended a stream"), 1)
		require.Equal(t, "ERROR", log.with("ended a stream")[0]["level"])
		require.Contains(t, log.with("ended a stream")[0]["error"], "no state any more")
	})
}

// The context of Snapshot has the values of the request, and ends when the call returns.
func TestContextOfSnapshotEndsWithTheCall(t *testing.T) {
	type key struct{}
	var hub broadcast.Hub
	var ctx context.Context
	h := &sse.Handler{Broadcaster: &hub, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(c context.Context) ([]broadcast.Message, error) {
			ctx = c
			return nil, c.Err()
		}}, nil
	}}
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "value")))
	}), func(t *testing.T, n *network) {
		s := n.get("/")
		s.expect("retry: 3000\nevent: begin\nid: 1-0\ndata: {\"begin\":\"1-0\"}\n\nid: " + position(t, &hub) + "\n\n")
		require.Error(t, ctx.Err(), "the call has returned")
		require.Equal(t, "value", ctx.Value(key{}), "it is derived from that of the request")
		require.NoError(t, hub.Close())
		s.expectEnd()
		synctest.Wait()
	})
}

// A stream ends at Expires and on Shutdown although its Snapshot does not return.
func TestStreamEndsWhileSnapshotHangs(t *testing.T) {
	hub := broadcast.Hub{Keep: 2}
	var calls atomic.Int32
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Options: sse.Options{MaxAge: time.Minute}, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(20 * time.Second), Snapshot: func(ctx context.Context) ([]broadcast.Message, error) {
			if calls.Add(1) == 1 {
				return nil, nil
			}
			<-ctx.Done() // a database that does not answer
			return nil, ctx.Err()
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		c := n.getUnread("/")
		time.Sleep(time.Second)
		for range 200 {
			publish(t, &hub, "a", string(bytes.Repeat([]byte("x"), 200<<10)))
		}
		go io.Copy(io.Discard, c)
		time.Sleep(time.Hour)
		require.EqualValues(t, 2, calls.Load())
		assert.Zero(t, hub.Stats().Subscriptions, "Expires 20 s, MaxAge 1 min; an hour later")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		assert.NoError(t, n.server.Shutdown(ctx), "Shutdown")
	})
}

// A message of a Snapshot that cannot be put on the wire is dropped and logged. The others are
// sent.
func TestUnsendableSnapshotMessageIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		log := &logbook{}
		h := &sse.Handler{Broadcaster: &hub, Logger: log.logger(), Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
				return []broadcast.Message{
					{Type: "a\nb", Data: []byte("1")},
					{Type: "gap", Data: []byte("2")},
					{Data: []byte("\xff")},
					{Type: "good", Data: []byte("3")},
				}, nil
			}}, nil
		}}
		got := record(t, h, "/", "", nil)
		require.Equal(t, "retry: 3000\nevent: begin\nid: 1-0\ndata: {\"begin\":\"1-0\"}\n\nevent: good\ndata: 3\n\nid: "+position(t, &hub)+"\n\n", got)
		require.Equal(t, 3, log.events("dropped a message"))
	})
}
