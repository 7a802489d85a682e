package ws_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// renewable grants a stream of a minute, which the token "ann/n" extends to n seconds.
func renewable(hub *broadcast.Hub) *ws.Handler {
	return &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Minute), Renew: func(token string) (time.Time, error) {
			var seconds int
			if _, err := fmt.Sscanf(token, "ann/%d", &seconds); err != nil {
				return time.Time{}, &fanfare.Refusal{Status: 403, Err: errors.New("it is not ann's")}
			}
			if seconds == 0 {
				return time.Time{}, nil
			}
			return time.Now().Add(time.Duration(seconds) * time.Second), nil
		}}, nil
	}}
}

func readText(t *testing.T, c *ws.Conn) string {
	t.Helper()
	_, data, err := c.Read(t.Context())
	require.NoError(t, err)
	return string(data)
}

// A fresh token extends the stream, again and again, and it loses nothing.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(broadcast.Hub)
		c := wstest.Dial(t, renewable(hub), httptest.NewRequest("GET", "/", nil))
		require.Regexp(t, `"expires":60}$`, readText(t, c))
		for i := range 10 {
			time.Sleep(50 * time.Second)
			require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"ann/60"}`)))
			require.Regexp(t, `^{"renewed":"[0-9a-f]+-[0-9a-f]+","expires":60}$`, readText(t, c))
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: fmt.Append(nil, i)})
			require.NoError(t, err)
			require.Contains(t, readText(t, c), fmt.Sprintf(`"data":"%d"`, i))
		}
		began := time.Now()
		_, _, err := c.Read(t.Context())
		require.Equal(t, ws.StatusCode(3000), ws.CloseStatus(err))
		require.ErrorContains(t, err, "expired")
		require.Equal(t, time.Minute, time.Since(began))
	})
}

// A stream that begins with a gap or a beginning has no ready: the first notice says when it expires.
func TestExpiresIsInTheFirstNotice(t *testing.T) {
	for _, test := range []struct {
		why, position, want string
		begins              bool
	}{
		{"a gap", "1-1", `^{"gap":"[^"]+",.*"expires":60}$`, false},
		{"a beginning", "", `^{"begin":"1-0",.*"expires":60}$`, true},
		{"neither", "", `^{"ready":"[^"]+",.*"expires":60}$`, false},
	} {
		t.Run(test.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := new(broadcast.Hub)
				h := renewable(hub)
				grant := h.Grant
				h.Grant = func(r *http.Request) (*fanfare.Grant, error) {
					g, err := grant(r)
					g.Beginning = test.begins
					return g, err
				}
				_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Key: "k", Data: []byte("1")})
				require.NoError(t, err)
				target := "/?lastEventId=" + test.position
				require.Regexp(t, test.want, readText(t, wstest.Dial(t, h, httptest.NewRequest("GET", target, nil))))
			})
		})
	}
}

// The new time counts also where it is earlier, over already, or never.
func TestRenewSetsAnyTime(t *testing.T) {
	for token, want := range map[string]time.Duration{"ann/10": 10 * time.Second, "ann/-1": 0, "ann/100": 100 * time.Second, "ann/0": -1} {
		t.Run(token, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := wstest.Dial(t, renewable(new(broadcast.Hub)), httptest.NewRequest("GET", "/", nil))
				readText(t, c)
				began := time.Now()
				require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"`+token+`"}`)))
				if want != 0 {
					require.Contains(t, readText(t, c), "renewed")
				}
				closed := make(chan error, 1)
				go func() { _, _, err := c.Read(t.Context()); closed <- err }()
				if want < 0 {
					time.Sleep(24 * time.Hour)
					require.Empty(t, closed)
					c.Close(1000, "")
					<-closed
					return
				}
				err := <-closed
				if err == nil { // the answer, before the end
					_, _, err = c.Read(t.Context())
				}
				require.Equal(t, ws.StatusCode(3000), ws.CloseStatus(err))
				require.Equal(t, want, time.Since(began))
			})
		})
	}
}

// A token that is refused changes nothing: the stream goes on until it expires, and no log
// has the token.
func TestRenewWithAForeignToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := renewable(new(broadcast.Hub))
		h.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		c := wstest.Dial(t, h, httptest.NewRequest("GET", "/", nil))
		readText(t, c)
		began := time.Now()
		time.Sleep(30 * time.Second)
		require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"bob/60"}`)))
		require.Regexp(t, `^{"renewed":"[0-9a-f]+-[0-9a-f]+","status":403}$`, readText(t, c))
		_, _, err := c.Read(t.Context())
		require.Equal(t, ws.StatusCode(3000), ws.CloseStatus(err))
		require.Equal(t, time.Minute, time.Since(began))
		require.Contains(t, log.String(), "refused a token")
		require.NotContains(t, log.String(), "bob")
	})
}

// A client that sends tokens all the time waits, and its latest counts.
func TestRenewIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		h := &ws.Handler{Broadcaster: new(broadcast.Hub), Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Renew: func(token string) (time.Time, error) {
				calls++
				if token == "last" {
					return time.Now().Add(time.Second), nil
				}
				return time.Time{}, nil
			}}, nil
		}}
		c := wstest.Dial(t, h, httptest.NewRequest("GET", "/", nil))
		go func() {
			for range 1000 {
				assert.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"x"}`)))
			}
			assert.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"last"}`)))
		}()
		for {
			if _, _, err := c.Read(t.Context()); err != nil {
				require.Equal(t, ws.StatusCode(3000), ws.CloseStatus(err))
				break
			}
		}
		require.LessOrEqual(t, calls, 12)
	})
}

// Where Grant has no Renew, and for anything that is no token alone, the message is one like
// any other.
func TestMessagesThatDoNotRenew(t *testing.T) {
	for _, test := range []struct {
		renew bool
		text  string
	}{{false, `{"token":"ann/60"}`}, {true, `{"token":"ann/60","x":1}`}, {true, `{"token":1}`}, {true, `{"topics":["a"],"token":"ann/60"}`}, {true, `"token"`}} {
		synctest.Test(t, func(t *testing.T) {
			h := renewable(new(broadcast.Hub))
			if !test.renew {
				h.Grant = nil
				h.Topics = []string{"a"}
			}
			var got []string
			h.Receive = func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
				return func(_ ws.MessageType, data []byte) error { got = append(got, string(data)); return nil }
			}
			c := wstest.Dial(t, h, httptest.NewRequest("GET", "/", nil))
			require.NoError(t, c.Write(t.Context(), ws.Text, []byte(test.text)))
			synctest.Wait()
			require.Equal(t, []string{test.text}, got)
			h.Receive = nil
			c = wstest.Dial(t, h, httptest.NewRequest("GET", "/", nil))
			readText(t, c)
			require.NoError(t, c.Write(t.Context(), ws.Text, []byte(test.text)))
			_, _, err := c.Read(t.Context())
			require.Equal(t, ws.StatusPolicyViolation, ws.CloseStatus(err))
		})
	}
}
