package sse_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A client that does not read is cut within WriteTimeout. It pins little memory, and delays
// no other client.
func TestClientThatNeverReadsIsCut(t *testing.T) {
	for _, test := range []struct {
		name      string
		timeout   time.Duration
		messages  int // of 400 kB
		from, max time.Duration
	}{
		{"by default", 0, 60, 5 * time.Second, 10 * time.Second},
		{"as the handler chooses", 4 * time.Second, 3, 2 * time.Second, 4 * time.Second},
		{"never", -1, 3, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := broadcast.Hub{Keep: 4}
			log := &logbook{}
			var left atomic.Int32
			h := &sse.Handler{Broadcaster: &hub, Options: sse.Options{WriteTimeout: test.timeout}, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
				context.AfterFunc(r.Context(), func() { left.Add(1) })
				return &fanfare.Grant{Topics: []string{"a"}}, nil
			}}
			serve(t, h, func(t *testing.T, n *network) {
				before := heap()
				stuck := n.getUnread("/")
				synctest.Wait() // until its stream is open
				began := time.Now()
				s := n.get("/")
				s.expectBegin()
				data := strings.Repeat("x", 400_000)
				var most uint64
				for i := range test.messages {
					at := time.Now()
					id := publish(t, &hub, "a", data)
					s.expect(tick(id, data))
					require.Equal(t, at, time.Now(), "no other client waits")
					if i%20 == 19 {
						most = max(most, heap()-min(before, heap()))
					}
				}
				require.Less(t, most, uint64(22<<20), "24 MB have been published, and encoded")
				require.Equal(t, 2, hub.Stats().Subscriptions)
				if test.max == 0 {
					time.Sleep(time.Hour)
					require.Equal(t, 2, hub.Stats().Subscriptions)
					stuck.Close()
					s.cancel()
					synctest.Wait()
					return
				}
				for hub.Stats().Subscriptions == 2 {
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
				}
				require.GreaterOrEqual(t, time.Since(began), test.from)
				require.LessOrEqual(t, time.Since(began), test.max+10*time.Millisecond)
				require.EqualValues(t, 1, left.Load())
				require.Len(t, log.with("stream ended"), 1)
				require.Equal(t, "write failed", log.with("stream ended")[0]["reason"])
				_, err := io.ReadAll(stuck)
				require.NoError(t, err, "the connection is closed")
				require.True(t, s.open())
				s.cancel()
				synctest.Wait()
			})
		})
	}
}

// A client that accepts 64 KiB within WriteTimeout is not cut, however much is pending.
func TestClientThatReadsSlowlyIsNotCut(t *testing.T) {
	for _, test := range []struct {
		name  string
		pause time.Duration // between 16 KiB
		cut   bool
	}{
		{"slow", time.Second, false},
		{"too slow", 4 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const messages = 40
			hub := broadcast.Hub{}
			log := &logbook{}
			h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: log.logger(), Options: sse.Options{Heartbeat: -1}}
			serve(t, h, func(t *testing.T, n *network) {
				c := n.getUnread("/")
				synctest.Wait()
				data := strings.Repeat("x", 30_000)
				for range messages {
					publish(t, &hub, "a", data)
				}
				began := time.Now()
				buf := make([]byte, 16<<10)
				var got int
				for got+len(buf) < messages*len(data) {
					k, err := io.ReadFull(c, buf)
					got += k
					if err != nil {
						break
					}
					time.Sleep(test.pause)
				}
				synctest.Wait()
				require.Equal(t, test.cut, hub.Stats().Subscriptions == 0)
				if test.cut {
					require.Equal(t, "write failed", log.with("stream ended")[0]["reason"])
				} else {
					require.Greater(t, time.Since(began), 60*time.Second, "far beyond one timeout")
				}
				c.Close()
				synctest.Wait()
			})
		})
	}
}

// Pending messages go out in as few writes as possible, each of at most 64 KiB.
func TestPendingMessagesShareWritesOf64KiB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 1000}
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
		record(t, h, "/", "", func(w *recorder) {
			writes := func() []int {
				synctest.Wait()
				w.mu.Lock()
				defer w.mu.Unlock()
				sizes := w.writes
				w.writes = nil
				return sizes
			}
			require.Len(t, writes(), 1, "the beginning")
			burst := func(messages, size int) {
				unblock := w.block()
				publish(t, &hub, "a", "first")
				synctest.Wait()
				for range messages {
					publish(t, &hub, "a", strings.Repeat("x", size))
				}
				unblock()
			}
			burst(200, 100)
			require.Len(t, writes(), 2, "the first message, then all others in one write")
			burst(10, 30_000)
			sizes := writes()
			require.Len(t, sizes, 6, "two to a write")
			for _, size := range sizes {
				require.LessOrEqual(t, size, 64<<10)
			}
			burst(3, 300_000)
			require.Len(t, writes(), 16, "a message larger than that has as many as it takes")
		})
	})
}

// A client that resumes far back and does not read pins about as much as one write takes.
func TestStuckClientPinsAboutOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, size = 10, 200 << 10
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Topics: []string{"a"}}
		begin := position(t, &hub)
		for range 250 {
			publish(t, &hub, "a", strings.Repeat("x", size))
		}
		before := heap()
		ctx, cancel := context.WithCancel(t.Context())
		var unblock []func()
		for range clients {
			w := &recorder{header: http.Header{}}
			unblock = append(unblock, w.block())
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.Header.Set("Last-Event-ID", begin)
			go h.ServeHTTP(w, r)
			synctest.Wait()
		}
		require.Less(t, heap()-min(before, heap()), uint64(clients*3*size+20<<20), "with the encoded messages, which all clients share")
		cancel()
		for _, f := range unblock {
			f()
		}
		synctest.Wait()
	})
}
