package middleware_test

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// kinds are all kinds of streams.
var kinds = []struct {
	name   string
	socket bool
	make   func(hub *broadcast.Hub) http.Handler
}{
	{"sse.Handler", false, func(hub *broadcast.Hub) http.Handler { return news(hub) }},
	{"sse.Handler/detached", false, func(hub *broadcast.Hub) http.Handler {
		h := news(hub)
		h.Detach = true
		return h
	}},
	{"sse.Writer", false, func(hub *broadcast.Hub) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if err != nil {
				return
			}
			defer s.Close()
			for m, err := range broadcast.Messages(s.Context(), hub, broadcast.SubscribeOptions{Topics: []string{"news"}}) {
				if err != nil || s.Send(sse.Event{Data: m.Data}) != nil {
					return
				}
			}
		})
	}},
	{"ws.Handler", true, func(hub *broadcast.Hub) http.Handler {
		return &ws.Handler{Broadcaster: hub, Topics: []string{"news"}, Encode: ws.Raw, Logger: silent}
	}},
	{"ws.Handler/detached", true, func(hub *broadcast.Hub) http.Handler {
		return &ws.Handler{Broadcaster: hub, Topics: []string{"news"}, Encode: ws.Raw, Logger: silent, Detach: true}
	}},
	{"ws.Upgrade", true, func(hub *broadcast.Hub) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := ws.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			c.CloseRead()
			<-c.Context().Done()
		})
	}},
}

// open sends a request for a stream, and returns the header of the answer, and how the
// client leaves.
func open(t *testing.T, h http.Handler, socket bool) (header http.Header, body io.Reader, leave func()) {
	t.Helper()
	l := memnet.Listen()
	server := &http.Server{Handler: h}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	conn, err := l.DialContext(t.Context(), "", "")
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	head := "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n"
	if socket {
		head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	_, err = io.WriteString(conn, head+"\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	want := http.StatusOK
	if socket {
		want = http.StatusSwitchingProtocols
	}
	require.Equal(t, want, response.StatusCode)
	return response.Header, response.Body, func() { conn.Close() }
}

// saver is a wrapper of middleware that saves a session when the response begins, and
// else after the handler.
type saver struct {
	http.ResponseWriter
	save func(http.ResponseWriter)
	done bool
}

func (s *saver) begin() {
	if !s.done {
		s.done = true
		s.save(s.ResponseWriter)
	}
}

func (s *saver) WriteHeader(status int)      { s.begin(); s.ResponseWriter.WriteHeader(status) }
func (s *saver) Write(b []byte) (int, error) { s.begin(); return s.ResponseWriter.Write(b) }
func (s *saver) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func saving(save func(http.ResponseWriter), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &saver{ResponseWriter: w, save: save}
		next.ServeHTTP(s, r)
		s.begin()
	})
}

// Middleware that saves when a response begins saves when a stream begins, once, and its
// cookie gets to the client.
func TestBypassBeginsSessions(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				var saves atomic.Int32
				h := middleware.Bypass(saving(func(w http.ResponseWriter) {
					saves.Add(1)
					w.Header().Add("Set-Cookie", "session=1")
				}, kind.make(&hub)))
				header, _, leave := open(t, h, kind.socket)
				assert.EqualValues(t, 1, saves.Load())
				assert.Equal(t, []string{"session=1"}, header.Values("Set-Cookie"))
				time.Sleep(time.Hour)
				leave()
				time.Sleep(time.Hour)
				assert.EqualValues(t, 1, saves.Load(), "not again when the stream has ended")
			})
		})
	}
}

// A wrapper that panics or never returns when a stream begins costs the stream a second
// at most, and no place of a Limit.
func TestBypassOfWrappersThatFail(t *testing.T) {
	for name, fails := range map[string]func(){
		"a panic":                                func() { panic("no store") },
		"a store that does not answer for hours": func() { time.Sleep(5 * time.Hour) },
	} {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var hub broadcast.Hub
					limit := &middleware.Limit{Total: 1, Logger: silent}
					var healthy atomic.Bool
					h := middleware.Bypass(limit.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						s := &saver{ResponseWriter: w, save: func(http.ResponseWriter) {
							if !healthy.Load() {
								fails()
							}
						}}
						kind.make(&hub).ServeHTTP(s, r)
					})))
					began := time.Now()
					_, _, leave := open(t, h, kind.socket)
					assert.LessOrEqual(t, time.Since(began), time.Second)
					time.Sleep(time.Hour)
					leave()
					time.Sleep(time.Minute)
					healthy.Store(true)
					_, _, leave = open(t, h, kind.socket)
					leave()
					time.Sleep(10 * time.Hour)
				})
			})
		}
	}
}

// labelling is a compressor that labels the response before it calls the handler, and
// closes its writer after it.
func labelling(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Trailer", "X-Sum")
		z := gzip.NewWriter(w)
		defer z.Close()
		next.ServeHTTP(zipped{w, z}, r)
	})
}

type zipped struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (w zipped) Write(b []byte) (int, error) { return w.z.Write(b) }
func (w zipped) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w zipped) Flush() {
	w.z.Flush()
	w.ResponseWriter.(http.Flusher).Flush()
}

// The label of a response fits its bytes: what a compressor says that a stream goes past
// is not sent, and what one says that it writes through is.
func TestLabelsFitTheBytes(t *testing.T) {
	for _, kind := range kinds {
		for _, chain := range []struct {
			name string
			wrap func(http.Handler) http.Handler
			past bool // an attached stream goes past the compressor
		}{
			{"compressor", labelling, false},
			{"Bypass, compressor", func(h http.Handler) http.Handler { return middleware.Bypass(labelling(h)) }, true},
			{"compressor, Bypass", func(h http.Handler) http.Handler { return labelling(middleware.Bypass(h)) }, false},
			{"compressor, Bypass, compressor", func(h http.Handler) http.Handler { return labelling(middleware.Bypass(labelling(h))) }, false},
			{"Bypass, compressor, Bypass", func(h http.Handler) http.Handler {
				return middleware.Bypass(labelling(middleware.Bypass(h)))
			}, true},
		} {
			t.Run(kind.name+"/"+chain.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var hub broadcast.Hub
					header, body, leave := open(t, chain.wrap(kind.make(&hub)), kind.socket)
					defer leave()
					if kind.socket || chain.past || kind.name == "sse.Handler/detached" {
						for _, name := range []string{"Content-Encoding", "Etag", "Trailer"} {
							assert.Empty(t, header.Values(name), name)
						}
					} else {
						require.Equal(t, []string{"gzip"}, header.Values("Content-Encoding"))
						z, err := gzip.NewReader(body)
						require.NoError(t, err)
						body = z
					}
					if kind.socket {
						return
					}
					synctest.Wait()
					publish(t, &hub, "readable")
					for e, err := range sse.NewReader(body).All() {
						require.NoError(t, err)
						if len(e.Data) > 0 {
							require.Equal(t, "readable", string(e.Data))
							return
						}
					}
					t.Error("nothing came")
				})
			})
		}
	}
}
