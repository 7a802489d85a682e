package sse_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
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

// Stats may be called before the fields are set, which are due before the first request.
func TestStatsComeBeforeTheFirstRequest(t *testing.T) {
	var h sse.Handler
	h.Stats()
	h.Broadcaster, h.Topics = &broadcast.Hub{}, []string{"a"}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("HEAD", "/", nil))
	require.Equal(t, 200, w.Code)
}

// app is a program whose Grant knows its server, as methods of one struct do.
type app struct {
	server *http.Server
	events *sse.Handler
}

func (a *app) grant(*http.Request) (*fanfare.Grant, error) {
	return &fanfare.Grant{Topics: []string{"a"}}, nil
}

// A handler keeps no http.Server alive that nobody uses any more, nor itself.
func TestServersAreCollected(t *testing.T) {
	var freed atomic.Int32
	for range 5 {
		a := &app{events: &sse.Handler{Broadcaster: &broadcast.Hub{}}}
		a.events.Grant = a.grant
		a.server = &http.Server{Handler: a.events}
		runtime.AddCleanup(a, func(int) { freed.Add(1) }, 0)
		r := httptest.NewRequest("HEAD", "/", nil)
		r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, a.server))
		a.events.ServeHTTP(httptest.NewRecorder(), r)
	}
	require.Eventually(t, func() bool { runtime.GC(); return freed.Load() == 5 }, 5*time.Second, 10*time.Millisecond)
}

// The header is sent at once, also where nothing follows it: no retry, no Ready.
func TestHeaderIsSentAtOnce(t *testing.T) {
	for name, detach := range map[string]bool{"attached": false, "detached": true} {
		t.Run(name, func(t *testing.T) {
			h := &sse.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Options: sse.Options{Retry: -1}, Detach: detach,
				Notice: func(fanfare.Notice) (sse.Event, bool) { return sse.Event{}, false }}
			serve(t, h, func(t *testing.T, n *network) {
				began := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				r, err := http.NewRequestWithContext(ctx, "GET", "http://memory/", nil)
				require.NoError(t, err)
				response, err := (&http.Client{Transport: n.transport}).Do(r)
				require.NoError(t, err)
				assert.Zero(t, time.Since(began))
				cancel()
				response.Body.Close()
				synctest.Wait()
			})
		})
	}
}

// rushed is a Broadcaster whose first Poll is full and whose second one has a gap.
type rushed struct{ polls int }

func (b *rushed) Subscribe(context.Context, broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	return b, nil
}

func (b *rushed) Publish(context.Context, broadcast.Message) (broadcast.ID, error) {
	return broadcast.ID{}, errors.ErrUnsupported
}

func (b *rushed) Position() broadcast.ID { return broadcast.MakeID(9, 0) }
func (b *rushed) Close() error           { return nil }

func (b *rushed) Poll(buf []*broadcast.Message) (int, error) {
	if b.polls++; b.polls > 1 {
		return 0, &broadcast.GapError{ID: broadcast.MakeID(9, 100)}
	}
	for i := range buf {
		buf[i] = &broadcast.Message{ID: broadcast.MakeID(9, uint64(i+1)), Topic: "a", Data: []byte("m")}
	}
	return len(buf), nil
}

// A detached stream that ends while its opening waits for what follows it is HTTP all
// the same.
func TestHeadPrecedesAFault(t *testing.T) {
	h := &sse.Handler{Broadcaster: &rushed{}, Detach: true, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
			return nil, errors.New("no database")
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory/", nil)
		require.NoError(t, err)
		r.Header.Set("Last-Event-ID", "9-0")
		response, err := (&http.Client{Transport: n.transport}).Do(r)
		require.NoError(t, err)
		response.Body.Close()
		synctest.Wait()
	})
}

// A notice of a hook is not of a Type that a browser or fanfare.js fires itself, or that only
// the stream sends; a gap and a beginning it may be.
func TestNoticeOfAReservedType(t *testing.T) {
	for typ, sent := range map[string]bool{
		"error": false, "open": false, "statechange": false, "begin": true, "ended": false, "gap": true, "end": true,
	} {
		h := &sse.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent,
			Notice: func(n fanfare.Notice) (sse.Event, bool) { return sse.Event{Type: typ, Data: []byte("x")}, true }}
		synctest.Test(t, func(t *testing.T) {
			w := httptest.NewRecorder()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
			require.Equal(t, sent, strings.Contains(w.Body.String(), "event: "+typ+"\n"), typ)
		})
	}
}
