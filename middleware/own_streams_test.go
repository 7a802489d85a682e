package middleware_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// ownLoop is a stream that is not the kit's: a loop that watches the request's context.
// It says why it ended.
func ownLoop(causes chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			fmt.Fprint(w, "data: tick\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				causes <- context.Cause(r.Context())
				return
			}
		}
	})
}

// layers are ways to mount a middleware on a stream.
var layers = map[string]func(middle func(http.Handler) http.Handler, next http.Handler) http.Handler{
	"alone": func(middle func(http.Handler) http.Handler, next http.Handler) http.Handler { return middle(next) },
	"inside of Bypass": func(middle func(http.Handler) http.Handler, next http.Handler) http.Handler {
		return middleware.Bypass(middle(next))
	},
	"outside of Bypass": func(middle func(http.Handler) http.Handler, next http.Handler) http.Handler {
		return middle(middleware.Bypass(next))
	},
	"outside of another": func(middle func(http.Handler) http.Handler, next http.Handler) http.Handler {
		return middle((&middleware.Limit{}).Handler((&middleware.Drain{}).Handler(next)))
	},
	"inside of another": func(middle func(http.Handler) http.Handler, next http.Handler) http.Handler {
		return (&middleware.Limit{}).Handler((&middleware.Drain{}).Handler(middle(next)))
	},
}

// Disconnect ends the context of a request that is no stream of the kit, and of no other
// key, and the cause says why.
func TestDisconnectEndsOwnLoops(t *testing.T) {
	for name, mount := range layers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sessions := &middleware.Sessions{Key: func(r *http.Request) string { return r.FormValue("user") }, Logger: silent}
				causes := make(chan error, 2)
				h := mount(sessions.Handler, ownLoop(causes))
				ann, bob := ssetest.Connect(t, h, get("/?user=ann")), ssetest.Connect(t, h, get("/?user=bob"))
				ann.Next()
				bob.Next()
				require.Equal(t, 1, sessions.Disconnect("ann", 4001, "your rights were revoked"))
				synctest.Wait()
				cause := <-causes
				assert.ErrorIs(t, cause, middleware.ErrDisconnected)
				assert.ErrorContains(t, cause, "your rights were revoked")
				for range ann.All() {
				}
				assert.NoError(t, ann.End())
				assert.Zero(t, sessions.Disconnect("ann", 0, ""), "it is not counted any more")
				time.Sleep(time.Minute)
				assert.Empty(t, causes, "others go on")
			})
		})
	}
}

// A Writer's Context says what ended it.
func TestDisconnectTellsAWriterWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := &middleware.Sessions{Key: func(r *http.Request) string { return "ann" }, Logger: silent}
		s := ssetest.Connect(t, sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if !assert.NoError(t, err) {
				return
			}
			defer s.Close()
			<-s.Context().Done()
			assert.ErrorIs(t, context.Cause(s.Context()), middleware.ErrDisconnected)
			assert.NoError(t, r.Context().Err(), "its handler may still finish its work")
			assert.NoError(t, s.Send(sse.Event{Data: []byte("the last one")}))
		})), get("/"))
		s.Status()
		synctest.Wait()
		sessions.Disconnect("ann", 0, "")
		require.Equal(t, "the last one", string(s.Next().Data))
		require.NoError(t, s.End())
	})
}

// A stream of the kit that begins after Disconnect has ended its context ends in good
// order, with the code: its request was still being authenticated.
func TestDisconnectBeforeTheStream(t *testing.T) {
	for name, mount := range layers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				sessions := &middleware.Sessions{Key: func(*http.Request) string { return "ann" }, Logger: silent}
				slowly := func(next http.Handler) http.Handler {
					return mount(sessions.Handler, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						time.Sleep(time.Second)
						next.ServeHTTP(w, r)
					}))
				}
				time.AfterFunc(500*time.Millisecond, func() { assert.Equal(t, 1, sessions.Disconnect("ann", 4001, "no more")) })
				c := wstest.Dial(t, slowly(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent}), get("/"))
				for {
					if _, _, err := c.Read(t.Context()); err != nil {
						require.EqualValues(t, 4001, ws.CloseStatus(err))
						break
					}
				}
				time.AfterFunc(500*time.Millisecond, func() { assert.Equal(t, 1, sessions.Disconnect("ann", 0, "")) })
				s := ssetest.Connect(t, slowly(news(&hub)), get("/"))
				require.Equal(t, 200, s.Status())
				require.NoError(t, s.End())
			})
		})
	}
}

// A handler that goes on by itself after it was refused a stream is ended, too.
func TestDisconnectOfAFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := &middleware.Sessions{Key: func(*http.Request) string { return "ann" }, Logger: silent}
		causes := make(chan error, 1)
		h := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			(&sse.Handler{Broadcaster: new(broadcast.Hub), Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
				time.Sleep(time.Second)
				return nil, io.ErrNoProgress
			}, ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {}}).ServeHTTP(w, r)
			ownLoop(causes).ServeHTTP(w, r)
		}))
		ssetest.Connect(t, h, get("/"))
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, 1, sessions.Disconnect("ann", 0, ""))
		time.Sleep(time.Minute)
		require.ErrorIs(t, <-causes, middleware.ErrDisconnected)
	})
}

// Shutdown ends the contexts of requests that are no streams of the kit over Spread.
func TestDrainEndsOwnLoops(t *testing.T) {
	for name, mount := range layers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				drain := &middleware.Drain{Logger: silent}
				causes := make(chan error, 4)
				for range 4 {
					s := ssetest.Connect(t, mount(drain.Handler, ownLoop(causes)), get("/"))
					go func() {
						for range s.All() {
						}
					}()
				}
				time.Sleep(time.Minute)
				began := time.Now()
				time.AfterFunc(6*time.Second, func() { assert.Len(t, causes, 2, "at equal intervals") })
				require.NoError(t, drain.Shutdown(t.Context()))
				require.Equal(t, 10*time.Second, time.Since(began))
				for range 4 {
					require.ErrorIs(t, <-causes, middleware.ErrDraining)
				}
			})
		})
	}
}

// With FinishAnswers, Shutdown lets Writers and other requests come to their own end, and
// ends streams in their turn. When its ctx ends, so do the answers.
func TestDrainFinishesAnswers(t *testing.T) {
	for _, test := range []struct {
		name string
		ctx  time.Duration
		err  error
	}{{"in time", time.Hour, nil}, {"late", 20 * time.Second, context.DeadlineExceeded}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				drain := &middleware.Drain{Spread: -1, FinishAnswers: true, Logger: silent}
				const takes = time.Minute
				causes := make(chan error, 2)
				answer := func(ctx context.Context) {
					select {
					case <-time.After(takes):
						causes <- nil
					case <-ctx.Done():
						causes <- context.Cause(ctx)
					}
				}
				writer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := sse.NewWriter(w, r, nil)
					if assert.NoError(t, err) {
						defer s.Close()
						answer(s.Context())
					}
				})
				page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_ = http.NewResponseController(w).Flush()
					answer(r.Context())
				})
				stream := ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
				socket := wstest.Dial(t, drain.Handler(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent}), get("/"))
				for _, h := range []http.Handler{writer, page} {
					ssetest.Connect(t, drain.Handler(h), get("/")).Status()
				}
				stream.Status()
				synctest.Wait()

				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), test.ctx)
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- drain.Shutdown(ctx) }()
				require.NoError(t, stream.End())
				for {
					if _, _, err := socket.Read(t.Context()); err != nil {
						require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
						break
					}
				}
				require.Less(t, time.Since(began), time.Second, "streams end in their turn")
				require.ErrorIs(t, <-done, test.err)
				require.Equal(t, min(takes, test.ctx), time.Since(began))
				for range 2 {
					if cause := <-causes; test.err == nil {
						require.NoError(t, cause)
					} else {
						require.ErrorIs(t, cause, middleware.ErrDraining)
					}
				}
			})
		})
	}
}

// A request that has just come in is not ended before it can become a stream: with its
// context ended, authentication would answer with an error, on which an EventSource gives
// up.
func TestDrainLetsYoungRequestsBecomeStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: -1, Logger: silent}
		h := drain.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select { // authentication
			case <-time.After(500 * time.Millisecond):
				news(&hub).ServeHTTP(w, r)
			case <-r.Context().Done():
				http.Error(w, "cannot authenticate", http.StatusInternalServerError)
			}
		}))
		s := ssetest.Connect(t, h, get("/"))
		synctest.Wait()
		require.NoError(t, drain.Shutdown(t.Context()))
		require.Equal(t, 200, s.Status())
		require.NoError(t, s.End())
	})
}

// A cut reaches requests of any age.
func TestDrainCutsOwnLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{Spread: -1, Logger: silent}
		causes := make(chan error, 1)
		ssetest.Connect(t, drain.Handler(ownLoop(causes)), get("/"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, drain.Shutdown(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, <-causes, middleware.ErrDraining)
		require.Equal(t, 100*time.Millisecond, time.Since(began))
	})
}

// A handler that goes on when its Writer has ended is no stream any more: what ended the
// Writer leaves its context alone, and what comes later ends that.
func TestDisconnectEndsWhatFollowsAWriter(t *testing.T) {
	for name, mount := range layers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sessions := &middleware.Sessions{Key: func(*http.Request) string { return "ann" }, Logger: silent}
				var ended, cause error
				h := mount(sessions.Handler, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := sse.NewWriter(w, r, nil)
					if !assert.NoError(t, err) {
						return
					}
					<-s.Context().Done()
					s.Close()
					time.Sleep(2 * time.Second)
					ended = r.Context().Err()
					<-r.Context().Done()
					cause = context.Cause(r.Context())
				}))
				ssetest.Connect(t, h, get("/"))
				synctest.Wait()
				require.Equal(t, 1, sessions.Disconnect("ann", 0, ""))
				time.Sleep(3 * time.Second)
				synctest.Wait()
				require.NoError(t, ended)
				require.Equal(t, 1, sessions.Disconnect("ann", 4000, "signed out"))
				synctest.Wait()
				require.ErrorIs(t, cause, middleware.ErrDisconnected)
			})
		})
	}
}
