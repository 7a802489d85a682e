package sse_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// No blank line precedes the first event of a Writer, for which some clients would fire an
// event. The header goes out at once, also where nothing follows it.
func TestNoBlankLinePrecedesTheFirstEvent(t *testing.T) {
	for _, test := range []struct {
		name, target string
		retry        time.Duration
		begin        string
	}{
		{"retry", "/", 0, "retry: 3000\n"},
		{"nothing", "/", -1, ""},
		{"padding alone", "/?padding=1", -1, ":" + strings.Repeat(" ", 2048) + "\n"},
	} {
		for protocol, configure := range map[string]func(*network){"HTTP/1.1": func(*network) {}, "HTTP/2": overHTTP2} {
			t.Run(test.name+"/"+protocol, func(t *testing.T) {
				h := written(t, &sse.Options{Retry: test.retry}, func(s *sse.Writer) {
					time.Sleep(10 * time.Second)
					assert.NoError(t, s.Send(sse.Event{Data: []byte("x")}))
				})
				serve(t, h, func(t *testing.T, n *network) {
					began := time.Now()
					s := n.get(test.target)
					require.Zero(t, time.Since(began), "the header is there")
					require.Equal(t, test.begin, s.received())
					s.expectAll("data: x\n\n")
				}, configure)
			})
		}
	}
}

// Where a Handler's Notice leaves out what its streams would begin with, nothing precedes the
// first message but the time to reconnect after.
func TestNothingPrecedesTheFirstMessageWithoutNotices(t *testing.T) {
	for name, h := range map[string]*sse.Handler{"attached": {}, "detached": {Detach: true}} {
		for _, retry := range []time.Duration{-1, 0} {
			t.Run(name+"/"+retry.String(), func(t *testing.T) {
				var hub broadcast.Hub
				h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: h.Detach, Logger: silent, Options: sse.Options{Retry: retry},
					Notice: func(fanfare.Notice) (sse.Event, bool) { return sse.Event{}, false }}
				serve(t, h, func(t *testing.T, n *network) {
					s := n.get("/")
					begin := ""
					if retry == 0 {
						begin = "retry: 3000\n"
					}
					require.Equal(t, begin, s.received())
					time.Sleep(500 * time.Millisecond) // a detached stream's first heartbeat comes after a second
					id := publish(t, &hub, "a", "x")
					s.expect(tick(id, "x"))
					time.Sleep(16 * time.Second)
					require.Empty(t, strings.ReplaceAll(s.received(), ":\n", ""), "heartbeats alone")
					s.cancel()
					hub.Close()
					synctest.Wait()
				}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
			})
		}
	}
}

// The header that was set before is sent, with the parameters of a Content-Type and with a
// Cache-Control. A Handler keeps only a Cache-Control that forbids to use the stream again.
func TestHeaderThatWasSetBeforeIsKept(t *testing.T) {
	const stream, preset = "text/event-stream", "no-store, no-transform"
	for _, test := range []struct {
		name                      string
		contentType               string
		cacheControl              string
		wantType, writer, handler string
	}{
		{"nothing", "", "", stream, preset, preset},
		{"parameters", "text/event-stream; charset=utf-8", "", "text/event-stream; charset=utf-8", preset, preset},
		{"in capitals", "Text/Event-Stream;charset=UTF-8", "", "Text/Event-Stream;charset=UTF-8", preset, preset},
		{"another type", "application/json", "", stream, preset, preset},
		{"no type", "???", "", stream, preset, preset},
		{"no-cache", "", "no-cache", stream, "no-cache", "no-cache"},
		{"a list", "", "private, No-Store", stream, "private, No-Store", "private, No-Store"},
		{"public", "", "public, max-age=60", stream, "public, max-age=60", preset},
	} {
		for name, h := range map[string]http.Handler{
			"Writer":   written(t, nil, func(*sse.Writer) {}),
			"attached": &sse.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent},
			"detached": &sse.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent, Detach: true},
		} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				want := test.handler
				if name == "Writer" {
					want = test.writer
				}
				preset := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Own", "yes")
					for field, value := range map[string]string{"Content-Type": test.contentType, "Cache-Control": test.cacheControl} {
						if value != "" {
							w.Header().Set(field, value)
						}
					}
					h.ServeHTTP(w, r)
				})
				serve(t, preset, func(t *testing.T, n *network) {
					s := n.get("/")
					require.Equal(t, []string{test.wantType}, s.Header.Values("Content-Type"))
					require.Equal(t, []string{want}, s.Header.Values("Cache-Control"))
					require.Equal(t, "no", s.Header.Get("X-Accel-Buffering"))
					require.Equal(t, "yes", s.Header.Get("X-Own"))
					s.cancel()
					time.Sleep(time.Minute)
				})
			})
		}
	}
}

// Options.Status is the status of the response. One without content is refused.
func TestStatusOfAStream(t *testing.T) {
	for status, want := range map[int]int{0: 200, 200: 200, 201: 201, 402: 402, 599: 599, 203: 203, 204: 500, 205: 500, 304: 500, 103: 500, 600: 500, -1: 500} {
		o := sse.Options{Status: status}
		for name, h := range map[string]http.Handler{
			"Writer": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, &o)
				if err != nil {
					assert.ErrorContains(t, err, "Options.Status")
					http.Error(w, err.Error(), 500)
					return
				}
				assert.NoError(t, s.Close())
			}),
			"attached": &sse.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent, Options: o},
			"detached": &sse.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent, Options: o, Detach: true},
		} {
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/")
				require.Equal(t, want, s.StatusCode, "%s: %d", name, status)
				s.cancel()
				time.Sleep(time.Minute)
			})
		}
	}
}
