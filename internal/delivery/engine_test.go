package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// deaf is a Broadcaster that lets no stream begin, as a Hub does whose journal's tail yields
// nothing.
type deaf struct{ broadcast.Broadcaster }

func (deaf) Subscribe(context.Context, broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	return nil, broadcast.ErrNotFollowing
}

// Each request that gets no stream is refused in one way: logged and counted once, and
// answered by the ErrorHandler if there is one.
func TestRefusals(t *testing.T) {
	hub, closed := new(broadcast.Hub), new(broadcast.Hub)
	closed.Close()
	granted := func(g *fanfare.Grant, err error) func(*http.Request) (*fanfare.Grant, error) {
		return func(*http.Request) (*fanfare.Grant, error) { return g, err }
	}
	for _, test := range []struct {
		name   string
		config delivery.Config
		tr     transport
		status int
		says   string
	}{
		{"the transport's", delivery.Config{Broadcaster: hub, Topics: []string{"a"}}, transport{check: &fanfare.Refusal{Status: 405, Err: errors.New("the method is PUT")}}, 405, "the method is PUT"},
		{"no Broadcaster", delivery.Config{Topics: []string{"a"}}, transport{}, 500, "Handler.Broadcaster is nil"},
		{"neither Topics nor Grant", delivery.Config{Broadcaster: hub}, transport{}, 500, "neither Topics nor Grant"},
		{"no Grant, no error", delivery.Config{Broadcaster: hub, Grant: granted(nil, nil)}, transport{}, 500, "neither a Grant nor an error"},
		{"no topics", delivery.Config{Broadcaster: hub, Grant: granted(&fanfare.Grant{}, nil)}, transport{}, 403, "without Topics"},
		{"an expired Grant", delivery.Config{Broadcaster: hub, Grant: granted(&fanfare.Grant{Topics: []string{"a"}, Expires: time.Unix(1, 0)}, nil)}, transport{}, 401, "expired"},
		{"an error", delivery.Config{Broadcaster: hub, Grant: granted(nil, errors.New("no database"))}, transport{}, 500, "no database"},
		{"a Refusal", delivery.Config{Broadcaster: hub, Grant: granted(nil, &fanfare.Refusal{Status: 404})}, transport{}, 404, "404"},
		{"a Refusal without a status", delivery.Config{Broadcaster: hub, Grant: granted(nil, &fanfare.Refusal{})}, transport{}, 403, "refused"},
		{"a Refusal that cannot refuse", delivery.Config{Broadcaster: hub, Grant: granted(nil, &fanfare.Refusal{Status: 200})}, transport{}, 500, "must be 204 or from 400 to 599"},
		{"a panic", delivery.Config{Broadcaster: hub, Grant: func(*http.Request) (*fanfare.Grant, error) { panic("in Grant") }}, transport{}, 500, "panic in Handler.Grant: in Grant"},
		{"a topic that cannot be", delivery.Config{Broadcaster: hub, Topics: []string{"a\nb"}}, transport{}, 500, "CR, LF"},
		{"a closed Hub", delivery.Config{Broadcaster: closed, Topics: []string{"a"}}, transport{}, 503, "closed"},
		{"a deaf Hub", delivery.Config{Broadcaster: deaf{}, Topics: []string{"a"}}, transport{}, 503, "its tail yields none"},
		{"a stream that cannot begin", delivery.Config{Broadcaster: hub, Topics: []string{"a"}}, transport{begin: func(*delivery.Opening) error { return errors.New("no connection") }}, 500, "no connection"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			test.config.Name, test.config.Logger = "test", slog.New(slog.NewTextHandler(&log, nil))
			for _, own := range []bool{false, true} {
				log.Reset()
				var handled error
				if own {
					test.config.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
						handled = err
						w.WriteHeader(http.StatusTeapot)
					}
				}
				e := delivery.NewEngine(test.config)
				w := httptest.NewRecorder()
				e.ServeHTTP(w, httptest.NewRequest("GET", "/", nil), &test.tr)
				assert.Contains(t, log.String(), test.says)
				assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("refused a stream")))
				assert.Equal(t, map[int]uint64{test.status: 1}, e.Stats().Refused)
				assert.Zero(t, e.Stats().Opened)
				if own {
					assert.Equal(t, http.StatusTeapot, w.Code)
					assert.ErrorContains(t, handled, test.says)
					continue
				}
				assert.Equal(t, test.status, w.Code)
				assert.NotContains(t, w.Body.String(), test.says, "the client gets the status alone")
			}
		})
	}
	assert.Zero(t, hub.Stats().Subscriptions, "nothing of a refused request is left")
}

// A panic with http.ErrAbortHandler in Grant reaches net/http, and leaves nothing.
func TestGrantAborts(t *testing.T) {
	hub := new(broadcast.Hub)
	e := delivery.NewEngine(delivery.Config{Name: "test", Broadcaster: hub, Logger: quiet, Grant: func(*http.Request) (*fanfare.Grant, error) {
		panic(http.ErrAbortHandler)
	}})
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), &transport{})
	})
}

// What does not begin leaves nothing: no subscription, no context that has not ended.
func TestOpeningIsAbandoned(t *testing.T) {
	var hub broadcast.Hub
	var ctx context.Context
	e := delivery.NewEngine(delivery.Config{Name: "test", Broadcaster: &hub, Logger: quiet, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		ctx = r.Context()
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}})
	for name, begin := range map[string]func(*delivery.Opening) error{
		"returns without starting":   func(*delivery.Opening) error { return nil },
		"fails":                      func(*delivery.Opening) error { return errors.New("no connection") },
		"panics in a wrapper's code": func(*delivery.Opening) error { panic("in Hijack") },
	} {
		t.Run(name, func(t *testing.T) {
			func() {
				defer func() { _ = recover() }()
				e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), &transport{begin: begin, mode: delivery.Mode{Detached: true}})
			}()
			assert.Zero(t, hub.Stats().Subscriptions)
			require.NotNil(t, ctx)
			assert.Error(t, ctx.Err())
			assert.Zero(t, e.Stats().Open)
		})
	}
}

// A detached stream's context has the request's values until it begins, and ends with
// the stream.
func TestDetachedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var hub broadcast.Hub
		defer hub.Close()
		var ctx context.Context
		var value any
		e := delivery.NewEngine(delivery.Config{Name: "test", Broadcaster: &hub, Logger: quiet, Grant: func(r *http.Request) (*fanfare.Grant, error) {
			ctx, value = r.Context(), r.Context().Value(key{})
			return &fanfare.Grant{Topics: []string{"a"}}, nil
		}})
		request, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "a room"))
		tr := &transport{mode: delivery.Mode{Detached: true}, conn: newWire()}
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(request), tr)
		cancel()
		synctest.Wait()
		assert.Equal(t, "a room", value)
		assert.Nil(t, ctx.Value(key{}))
		assert.NoError(t, ctx.Err(), "the end of the request is not the end of the stream")
		tr.stream.End(delivery.Restart)
		<-tr.stream.Done()
		assert.Error(t, ctx.Err())
	})
}

// The context of a detached stream ends with the stream, whenever something asks for that, and
// what depends on it costs no goroutine.
func TestDetachedContextEndsWhatDependsOnIt(t *testing.T) {
	for name, asks := range map[string]struct{ inGrant, open, ended bool }{
		"in the Grant":               {inGrant: true},
		"while the stream is open":   {open: true},
		"in both":                    {inGrant: true, open: true},
		"after the stream has ended": {ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				defer hub.Close()
				var ctx context.Context
				registered := 0
				var called atomic.Int64
				register := func(asks bool) {
					if asks {
						registered++
						derived, cancel := context.WithCancel(ctx)
						context.AfterFunc(derived, func() { called.Add(1); cancel() })
					}
				}
				e := delivery.NewEngine(delivery.Config{Name: "test", Broadcaster: &hub, Logger: quiet, Grant: func(r *http.Request) (*fanfare.Grant, error) {
					ctx = r.Context()
					register(asks.inGrant)
					return &fanfare.Grant{Topics: []string{"a"}}, nil
				}})
				tr := &transport{mode: delivery.Mode{Detached: true}, conn: newWire()}
				e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), tr)
				synctest.Wait()
				goroutines := runtime.NumGoroutine()
				register(asks.open)
				synctest.Wait()
				assert.Equal(t, goroutines, runtime.NumGoroutine())
				assert.Zero(t, called.Load())
				tr.stream.End(delivery.Restart)
				<-tr.stream.Done()
				register(asks.ended)
				synctest.Wait()
				assert.EqualValues(t, registered, called.Load())
				assert.ErrorIs(t, ctx.Err(), context.Canceled)
			})
		})
	}
}

// A stream that is attached ends with its request.
func TestRequestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		for name, begin := range map[string]func(*transport) func(*delivery.Opening) error{
			"started": func(tr *transport) func(*delivery.Opening) error {
				return func(o *delivery.Opening) error { o.Start(tr.conn, nil, 0); <-tr.stream.Done(); return nil }
			},
			"served": func(tr *transport) func(*delivery.Opening) error {
				return func(o *delivery.Opening) error { o.Serve(tr.conn, nil, 0); return nil }
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			tr := &transport{conn: newWire()}
			tr.begin = begin(tr)
			engine(&hub, nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx), tr)
			assert.Equal(t, []string{"ready 0", "end: request ended"}, tr.conn.take(), name)
			cancel()
		}
	})
}

// exiting is a Conn whose Closing ends its goroutine.
type exiting struct{ *wire }

func (exiting) Closing() { runtime.Goexit() }

// Its writer ends a stream also if a hook has ended the goroutine that asked for that.
func TestRequestEndsWhenClosingExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tr := &transport{conn: newWire()}
		tr.begin = func(o *delivery.Opening) error { o.Serve(exiting{tr.conn}, nil, 0); return nil }
		engine(&hub, nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx), tr)
		assert.Equal(t, []string{"ready 0", "end: request ended"}, tr.conn.take())
	})
}

// A middleware that holds something for a stream can end it, and cut it.
func TestMiddlewareEnds(t *testing.T) {
	for want, how := range map[string]streamctx.End{
		"restart":      {},
		"disconnected": {Code: 3003},
		"cut":          {Cut: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			defer hub.Close()
			released := false
			hold, ctx := streamctx.NewHold(t.Context(), func(*streamctx.Hold) { released = true })
			tr := &transport{mode: delivery.Mode{Detached: true}, conn: newWire()}
			engine(&hub, nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx), tr)
			hold.Release()
			synctest.Wait()
			assert.False(t, released, "the stream has not ended")
			hold.End(how)
			<-tr.stream.Done()
			synctest.Wait()
			assert.True(t, released)
			assert.Equal(t, []string{"ready 0", "end: " + want}, tr.conn.take())
			assert.Equal(t, how.Cut, tr.conn.cut)
		})
	}
}

func TestIsOn(t *testing.T) {
	for value, on := range map[string]bool{"1": true, "true": true, "": false, "0": false, "false": false, "yes": false} {
		assert.Equal(t, on, delivery.IsOn(url.Values{"poll": {value}}, "poll"), value)
	}
	assert.False(t, delivery.IsOn(nil, "poll"))
}

func TestAfter(t *testing.T) {
	for _, test := range []struct {
		name, header, query string
		want                broadcast.ID
	}{
		{"nothing", "", "", broadcast.ID{}},
		{"the header", "1f-2a", "", broadcast.MakeID(0x1f, 0x2a)},
		{"the header comes first", "1f-2a", "?lastEventId=1f-1", broadcast.MakeID(0x1f, 0x2a)},
		{"the query", "", "?lastEventId=1f-1", broadcast.MakeID(0x1f, 1)},
		{"as other hubs write it", "", "?last_event_id=1f-1", broadcast.MakeID(0x1f, 1)},
		{"as polyfills write it", "", "?lastEventID=1f-1", broadcast.MakeID(0x1f, 1)},
		{"no ID resumes as a gap", "nonsense", "", broadcast.MakeID(1, 0)},
	} {
		r := httptest.NewRequest("GET", "/"+test.query, nil)
		if test.header != "" {
			r.Header.Set("Last-Event-ID", test.header)
		}
		assert.Equal(t, test.want, delivery.After(r), test.name)
	}
}

// An engine forgets an http.Server that nobody uses any more.
func TestServersAreForgotten(t *testing.T) {
	e := engine(new(broadcast.Hub), nil)
	use := func() {
		for range 100 {
			ctx := context.WithValue(t.Context(), http.ServerContextKey, &http.Server{Addr: "localhost:0"})
			e.ServerOf(httptest.NewRequest("GET", "/", nil).WithContext(ctx))
		}
	}
	use()
	require.Eventually(t, func() bool { runtime.GC(); return e.Servers() == 0 }, 5*time.Second, 10*time.Millisecond)
}

// The streams of a server that begins to shut down end, also one that begins later.
func TestServerShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		server := new(http.Server)
		e := engine(&hub, nil)
		connect := func() *transport {
			tr := &transport{mode: delivery.Mode{Detached: true}, conn: newWire()}
			ctx := context.WithValue(t.Context(), http.ServerContextKey, server)
			e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx), tr)
			return tr
		}
		before := connect()
		synctest.Wait()
		assert.NoError(t, server.Shutdown(t.Context()))
		<-before.stream.Done()
		assert.Equal(t, []string{"ready 0", "end: restart"}, before.conn.take())
		after := connect()
		<-after.stream.Done()
		assert.Equal(t, []string{"ready 0", "end: restart"}, after.conn.take())
	})
}
