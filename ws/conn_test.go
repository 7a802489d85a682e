package ws_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// upgraded is a handler that gives its connections to serve, and closes them
// when that returns.
func upgraded(o *ws.Options, serve func(c *ws.Conn)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Upgrade(w, r, o)
		if err != nil {
			return
		}
		defer c.CloseNow()
		serve(c)
	})
}

// echo sends back what comes, until the connection ends with the error that it
// returns.
func echo(c *ws.Conn) error {
	for {
		typ, data, err := c.Read(context.Background())
		if err != nil {
			return err
		}
		if err := c.Write(context.Background(), typ, data); err != nil {
			return err
		}
	}
}

func echoServer(o *ws.Options, ended chan<- error) http.Handler {
	return upgraded(o, func(c *ws.Conn) { ended <- echo(c) })
}

func TestMessagesOfAllSizesBothWays(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
		n.server.Handler = echoServer(&ws.Options{MaxMessage: 2 << 20}, ended)
		c := n.dial("/", ws.Options{MaxMessage: 2 << 20})
		for _, size := range []int{0, 1, 125, 126, 511, 512, 513, 4096, 4097, 65535, 65536, 1 << 20} {
			for typ, data := range map[ws.MessageType]string{
				ws.Text:   strings.Repeat("é", size/2) + strings.Repeat("x", size%2),
				ws.Binary: strings.Repeat("\xff\x00", size/2) + strings.Repeat("\xfe", size%2),
			} {
				require.NoError(t, c.Write(t.Context(), typ, []byte(data)))
				gotType, got, err := c.Read(t.Context())
				require.NoError(t, err)
				require.Equal(t, typ, gotType)
				require.True(t, data == string(got), "%d bytes", size)
			}
		}
		require.NoError(t, c.Close(ws.StatusNormalClosure, "done"))
		require.Equal(t, &ws.CloseError{Code: ws.StatusNormalClosure, Reason: "done"}, <-ended)
	})
}

// TestMaxMessage has messages that are too big, byte by byte too. The rest of the
// protocol is TestConformance.
func TestMaxMessage(t *testing.T) {
	for name, send := range map[string]string{
		"in one frame":                 masked(fin|text, strings.Repeat("x", 1025)),
		"in fragments":                 masked(text, strings.Repeat("x", 1024)) + masked(fin|cont, "x"),
		"in a frame that is not whole": masked(fin|text, strings.Repeat("x", 1<<20))[:2000],
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, 1 << 30} {
				serve(t, nil, func(t *testing.T, n *network) {
					ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
					n.server.Handler = echoServer(&ws.Options{MaxMessage: 1024}, ended)
					p := n.raw("/", "")
					go p.trickle(send, piece)
					p.closes(1009)
					p.Close()
					require.Equal(t, ws.StatusMessageTooBig, ws.CloseStatus(<-ended))
				})
			}
		})
	}
}

// TestCloseCodes sends every code: those of the registry and of the free ranges go out,
// others are refused.
func TestCloseCodes(t *testing.T) {
	for _, code := range codes() {
		serve(t, upgraded(nil, func(c *ws.Conn) {
			err := c.Close(code, "bye")
			assert.Equal(t, legal(code), err == nil, "%d: %v", code, err)
		}), func(t *testing.T, n *network) {
			p := n.raw("/", "")
			if legal(code) {
				require.Equal(t, "bye", p.closes(code))
			}
		})
	}
}

func TestTheReasonIsCutBetweenRunes(t *testing.T) {
	for _, reason := range []string{strings.Repeat("x", 200), strings.Repeat("é", 100), strings.Repeat("日本", 40), "a\xff" + strings.Repeat("y", 130)} {
		serve(t, upgraded(nil, func(c *ws.Conn) { assert.NoError(t, c.Close(1000, reason)) }), func(t *testing.T, n *network) {
			got := n.raw("/", "").closes(1000)
			require.LessOrEqual(t, len(got), 123)
			require.GreaterOrEqual(t, len(got), 120)
			require.True(t, utf8.ValidString(got))
		})
	}
}

func TestWhatIsSentRightBehindTheHandshakeIsNotLost(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
		n.server.Handler = echoServer(nil, ended)
		p := n.raw("/", masked(fin|text, "early")+masked(fin|text, strings.Repeat("x", 700)))
		p.says("early", strings.Repeat("x", 700))
		p.Close()
		require.Error(t, <-ended)
	})
}

func TestReadThatIsGivenUpLosesNothing(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		for range 3 {
			ctx, cancel := context.WithTimeout(c.Context(), time.Second)
			_, _, err := c.Read(ctx)
			cancel()
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
		time.Sleep(time.Second) // what comes now has nobody waiting for it
		for _, want := range []string{"one", "two"} {
			_, data, err := c.Read(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, want, string(data))
		}
		c.Close(1000, "")
	}), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		time.Sleep(3500 * time.Millisecond)
		p.write(masked(fin|text, "one") + masked(fin|text, "two"))
		p.closes(1000)
	})
}

func TestReadAhead(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		conns := make(chan *ws.Conn)
		n.server.Handler = upgraded(&ws.Options{PingInterval: -1}, func(c *ws.Conn) {
			conns <- c
			<-c.Context().Done()
		})
		p := n.raw("/", "")
		c := <-conns

		// A read that was given up is part of it.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := c.Read(ended)
		require.ErrorIs(t, err, context.Canceled)
		c.ReadAhead(300)
		c.ReadAhead(1) // no effect any more

		p.write(masked(fin|text, "0"))
		p.write(masked(fin|ping, "are you there?"))
		require.Equal(t, frame{fin | pong, "are you there?"}, p.next(), "while nobody reads")

		// It reads no further than that, and on when there is room.
		written := make(chan int, 10)
		go func() {
			for i := 1; i < 9; i++ {
				io.WriteString(p.Conn, masked(fin|text, strconv.Itoa(i)))
				written <- i
			}
			io.WriteString(p.Conn, masked(fin|clos, closing(1000, "")))
		}()
		synctest.Wait()
		require.Less(t, len(written), 6, "five small messages wait")
		for i := range 9 {
			_, data, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(i), string(data))
		}
		p.closes(1000)
		for range 2 {
			_, _, err = c.Read(t.Context())
			require.EqualValues(t, 1000, ws.CloseStatus(err), "the end stays the end")
		}
	})
	t.Run("Close", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			closed := make(chan error)
			n.server.Handler = upgraded(nil, func(c *ws.Conn) {
				c.ReadAhead(-1)
				time.Sleep(time.Second)
				closed <- c.Close(4000, "bye")
			})
			p := n.raw("/", "")
			p.write(masked(fin|text, "never read"))
			p.closes(4000)
			require.NoError(t, <-closed)
		})
	})
	t.Run("a peer that is silent", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			took := make(chan time.Duration)
			n.server.Handler = upgraded(nil, func(c *ws.Conn) {
				began := time.Now()
				c.ReadAhead(0)
				<-c.Context().Done()
				took <- time.Since(began)
			})
			p := n.raw("/", "")
			go io.Copy(io.Discard, p.Conn)
			require.Equal(t, time.Minute, <-took, "its silence is noticed")
		})
	})
}

func TestWriteWaitsForItsTurnNoLongerThanItsContext(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		stuck := make(chan error, 1)
		go func() { stuck <- c.Write(context.Background(), ws.Text, []byte("slow")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		assert.ErrorIs(t, c.Write(ctx, ws.Text, []byte("never")), context.DeadlineExceeded)
		assert.NoError(t, <-stuck, "the connection stays")
		assert.NoError(t, c.Write(context.Background(), ws.Text, []byte("then")))
		c.Close(1000, "")
	}), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		time.Sleep(5 * time.Second)
		p.says("slow", "then")
		p.closes(1000)
	})
}

func TestPongsDoNotWaitBehindTheReader(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
		n.server.Handler = upgraded(nil, func(c *ws.Conn) {
			c.CloseRead()
			ended <- c.Write(context.Background(), ws.Binary, make([]byte, 1<<20))
			<-c.Context().Done()
		})
		p := n.raw("/", "")
		synctest.Wait()
		// The server is stuck in a write. Its reader takes all pings; only the
		// newest needs an answer.
		for i := range 1000 {
			p.write(masked(fin|ping, fmt.Sprint(i)))
		}
		synctest.Wait()
		f := p.next()
		require.Len(t, f.payload, 1<<20, "a frame that was begun is finished first")
		require.Equal(t, frame{fin | pong, "999"}, p.next())
		require.NoError(t, <-ended)
		p.Close()
	})
}

func TestAPeerThatNeverReadsIsCut(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
		n.server.Handler = upgraded(&ws.Options{WriteTimeout: 3 * time.Second}, func(c *ws.Conn) {
			c.CloseRead()
			began := time.Now()
			err := c.Write(context.Background(), ws.Text, []byte("x"))
			assert.Equal(t, 3*time.Second, time.Since(began))
			<-c.Context().Done()
			ended <- err
		})
		n.raw("/", "")
		require.Error(t, <-ended)
	})
}

func TestCloseTakesNoLongerThanWriteTimeout(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(c *ws.Conn)
		reads  bool
	}{
		{"a peer that does not answer", func(*ws.Conn) {}, true},
		{"a peer that does not even read", func(*ws.Conn) {}, false},
		{"while a write is stuck", func(c *ws.Conn) {
			go c.Write(context.Background(), ws.Text, []byte("stuck"))
			synctest.Wait()
		}, false},
		{"while somebody reads", func(c *ws.Conn) {
			go c.Read(context.Background())
			synctest.Wait()
		}, true},
		{"after a read that was given up", func(c *ws.Conn) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			c.Read(ctx)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			serve(t, nil, func(t *testing.T, n *network) {
				done := make(chan struct{}) // made in the bubble, so that waiting for it lets time go on
				n.server.Handler = upgraded(&ws.Options{WriteTimeout: 4 * time.Second}, func(c *ws.Conn) {
					defer close(done)
					test.before(c)
					began := time.Now()
					c.Close(1000, "")
					assert.Equal(t, 4*time.Second, time.Since(began))
					assert.Error(t, c.Context().Err())
					_, _, err := c.Read(context.Background())
					assert.ErrorIs(t, err, net.ErrClosed)
					assert.ErrorIs(t, c.Write(context.Background(), ws.Text, nil), net.ErrClosed)
					assert.Error(t, c.Close(1000, ""), "it is closed")
				})
				p := n.raw("/", "")
				if test.reads {
					go io.Copy(io.Discard, p.Conn)
				}
				<-done
			})
		})
	}
}

func TestKeepalive(t *testing.T) {
	t.Run("a ping after an interval without a word, and the end after another", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
			n.server.Handler = echoServer(nil, ended)
			p := n.raw("/", "")
			began := time.Now()
			require.Equal(t, frame{fin | ping, ""}, p.next())
			require.Equal(t, 30*time.Second, time.Since(began))
			p.ends()
			require.Equal(t, 60*time.Second, time.Since(began))
			require.ErrorContains(t, <-ended, "silent")
		})
	})
	t.Run("a peer that answers stays", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
			n.server.Handler = echoServer(nil, ended)
			c := n.dial("/", ws.Options{PingInterval: -1})
			c.CloseRead()
			time.Sleep(time.Hour)
			require.NoError(t, c.Context().Err())
			c.CloseNow()
			require.Error(t, <-ended)
		})
	})
	t.Run("no ping where something came in", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
			n.server.Handler = echoServer(nil, ended)
			p := n.raw("/", "")
			for range 20 {
				p.silent(20 * time.Second)
				p.write(masked(fin|text, "x"))
				p.says("x")
			}
			p.Close()
			require.Error(t, <-ended)
		})
	})
	t.Run("silence does not count while nobody reads", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1) // made in the bubble, so that waiting for it lets time go on
			n.server.Handler = upgraded(nil, func(c *ws.Conn) {
				time.Sleep(5 * time.Minute)
				_, data, err := c.Read(context.Background())
				assert.Equal(t, "late", string(data))
				ended <- err
			})
			p := n.raw("/", "")
			go io.Copy(io.Discard, p.Conn)
			p.write(masked(fin|text, "late"))
			require.NoError(t, <-ended)
		})
	})
}

func TestLife(t *testing.T) {
	t.Run("MaxAge", func(t *testing.T) {
		serve(t, upgraded(&ws.Options{MaxAge: 100 * time.Second}, func(c *ws.Conn) { c.Read(context.Background()) }), func(t *testing.T, n *network) {
			c := n.dial("/", ws.Options{})
			began := time.Now()
			_, _, err := c.Read(context.Background())
			require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
			require.GreaterOrEqual(t, time.Since(began), 80*time.Second)
			require.LessOrEqual(t, time.Since(began), 100*time.Second)
		})
	})
	t.Run("the request's context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		h := upgraded(nil, func(c *ws.Conn) { c.Read(context.Background()) })
		serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r.WithContext(ctx)) }), func(t *testing.T, n *network) {
			p := n.raw("/", "")
			synctest.Wait()
			cancel()
			p.closes(ws.StatusGoingAway)
		})
	})
	t.Run("CloseRead refuses messages", func(t *testing.T) {
		serve(t, upgraded(nil, func(c *ws.Conn) {
			c.CloseRead()
			<-c.Context().Done()
			assert.Equal(t, ws.StatusPolicyViolation, ws.CloseStatus(context.Cause(c.Context())))
		}), func(t *testing.T, n *network) {
			p := n.raw("/", "")
			p.write(masked(fin|text, "hi"))
			p.closes(ws.StatusPolicyViolation)
		})
	})
}

func TestJSON(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		var v struct{ N int }
		assert.ErrorContains(t, c.ReadJSON(context.Background(), &v), "JSON")
		assert.NoError(t, c.ReadJSON(context.Background(), &v), "the connection stays")
		v.N++
		assert.NoError(t, c.WriteJSON(context.Background(), v))
		assert.Error(t, c.WriteJSON(context.Background(), make(chan int)))
		assert.ErrorContains(t, c.Write(context.Background(), ws.Text, []byte("\xff")), "Binary")
		assert.Error(t, c.Write(context.Background(), 7, nil))
		c.Close(1000, "")
	}), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.write(masked(fin|text, "{") + masked(fin|text, `{"N":1}`))
		p.says(`{"N":2}`)
		p.closes(1000)
	})
}

// plainWriter is a ResponseWriter that some middleware has wrapped badly.
type plainWriter struct{ http.ResponseWriter }

// goodWriter is one that has wrapped it well.
type goodWriter struct{ http.ResponseWriter }

func (g goodWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }

func TestHandshake(t *testing.T) {
	refuse := func(*http.Request) error { return fmt.Errorf("not you") }
	for _, test := range []struct {
		name   string
		change func(r *http.Request)
		o      *ws.Options
		status int
		header string // "Name: value" that the answer must have
	}{
		{"as it should be", func(*http.Request) {}, nil, 101, "Upgrade: websocket"},
		{"POST", func(r *http.Request) { r.Method = "POST" }, nil, 405, "Allow: GET"},
		{"no upgrade", func(r *http.Request) { r.Header.Del("Upgrade") }, nil, 426, "Upgrade: websocket"},
		{"no connection token", func(r *http.Request) { r.Header.Set("Connection", "close") }, nil, 426, "Upgrade: websocket"},
		{"another version", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }, nil, 426, "Sec-WebSocket-Version: 13"},
		{"no key", func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") }, nil, 400, ""},
		{"a short key", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "Zm9v") }, nil, 400, ""},
		{"two keys", func(r *http.Request) { r.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") }, nil, 400, ""},
		{"HTTP/2", func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 }, nil, 501, ""},
		{"HTTP/1.0", func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 }, nil, 426, ""},
		{"the same origin", func(r *http.Request) { r.Header.Set("Origin", "https://EXAMPLE.com") }, nil, 101, ""},
		{"a foreign origin", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, nil, 403, ""},
		{"another port", func(r *http.Request) { r.Header.Set("Origin", "https://example.com:444") }, nil, 403, ""},
		{"a null origin", func(r *http.Request) { r.Header.Set("Origin", "null") }, nil, 403, ""},
		{"a cross-site fetch without origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, nil, 403, ""},
		{"a same-site fetch without origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, nil, 403, ""},
		{"a same-origin fetch without origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, nil, 101, ""},
		{"CheckOrigin refuses", func(*http.Request) {}, &ws.Options{CheckOrigin: refuse}, 403, ""},
		{"CheckOrigin allows", func(r *http.Request) { r.Header.Set("Origin", "https://friend.example") },
			&ws.Options{CheckOrigin: func(*http.Request) error { return nil }}, 101, ""},
		{"a subprotocol", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "bearer.secret, v2, v1") },
			&ws.Options{Subprotocols: []string{"v1", "v2"}}, 101, "Sec-WebSocket-Protocol: v1"},
		{"a subprotocol that is not known is not echoed", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "bearer.secret") },
			&ws.Options{Subprotocols: []string{"v1"}}, 101, "Sec-WebSocket-Protocol: "},
		{"headers set before go out with it", func(*http.Request) {}, nil, 101, "Set-Cookie: a=b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := upgraded(test.o, func(c *ws.Conn) {})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Host = "example.com"
				test.change(r)
				w.Header().Set("Set-Cookie", "a=b")
				h.ServeHTTP(goodWriter{w}, r)
			}))
			defer server.Close()
			r, err := http.NewRequest("GET", server.URL, nil)
			require.NoError(t, err)
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
				"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				r.Header.Set(name, value)
			}
			response, err := http.DefaultTransport.RoundTrip(r)
			require.NoError(t, err)
			defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			defer response.Body.Close()
			assert.Equal(t, test.status, response.StatusCode)
			if name, value, ok := strings.Cut(test.header, ": "); ok {
				assert.Equal(t, value, response.Header.Get(name))
			}
		})
	}
	t.Run("a writer that cannot be hijacked", func(t *testing.T) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
			"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			r.Header.Set(name, value)
		}
		_, err := ws.Upgrade(goodWriter{plainWriter{w}}, r, nil)
		require.ErrorIs(t, err, ws.ErrCannotHijack)
		require.ErrorContains(t, err, "ws_test.plainWriter")
		require.ErrorContains(t, err, "Unwrap")
		require.Equal(t, 500, w.Code)
	})
}

func TestDialRefused(t *testing.T) {
	for _, status := range []int{200, 403, 404, 503} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
		_, err := ws.Dial(t.Context(), server.URL, nil)
		var refused *ws.HandshakeError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, status, refused.Status)
		http.DefaultClient.CloseIdleConnections()
		server.Close()
	}
	_, err := ws.Dial(t.Context(), "ftp://example.com", nil)
	require.Error(t, err)
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A ping that has not gone out yet asks for no answer.
func TestPingBehindASlowWrite(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		done := make(chan error, 1)
		n.server.Handler = upgraded(&ws.Options{PingInterval: time.Second, WriteTimeout: 10 * time.Second}, func(c *ws.Conn) {
			c.CloseRead()
			done <- c.Write(context.Background(), ws.Binary, make([]byte, 100))
			<-c.Context().Done()
		})
		p := n.raw("/", "")
		// It takes 4 s to read it, and answers each ping at once.
		time.Sleep(4 * time.Second)
		p.SetReadDeadline(time.Now().Add(limit))
		f, err := readFrame(p.r, false)
		assert.NoError(t, err)
		assert.Equal(t, fin|bin, int(f.first))
		assert.NoError(t, <-done)
		p.Close()
	})
}

// The answer to a ping does not put off the next one: proxies count silence in both
// directions.
func TestPingEveryInterval(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1)
		n.server.Handler = echoServer(nil, ended)
		p := n.raw("/", "")
		began := time.Now()
		for i := 1; i <= 4; i++ {
			f := p.next()
			require.Equal(t, fin|ping, int(f.first))
			p.write(masked(fin|pong, f.payload))
			t.Log("ping after", time.Since(began))
			assert.LessOrEqual(t, time.Since(began), 31*time.Second)
			began = time.Now()
		}
		p.Close()
		<-ended
	})
}
