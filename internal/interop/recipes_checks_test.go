package interop_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/golang-jwt/jwt/v5"
	gorilla "github.com/gorilla/sessions"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// The recipes that are tested here are those of the page.
func TestRecipesAreThoseOfTheDocs(t *testing.T) {
	code, err := os.ReadFile("recipes_test.go")
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/authentication.md")
	require.NoError(t, err)
	recipes := regexp.MustCompile(`(?ms)^func \w+Streams\(.*?^}$`).FindAllString(string(code), -1)
	require.Len(t, recipes, 5)
	for _, recipe := range recipes {
		assert.True(t, strings.Contains(string(page), "\n"+recipe+"\n"), "%.60s", recipe)
	}
}

// call sends a request with a header to a handler.
func call(h http.Handler, method, name, value string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	if name != "" {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// stream opens an event stream with a header.
func stream(t *testing.T, h http.Handler, name, value string) *ssetest.Stream {
	r := httptest.NewRequest("GET", "/", nil)
	if name != "" {
		r.Header.Set(name, value)
	}
	return ssetest.Connect(t, h, r)
}

// cookieOf returns what a browser sends back.
func cookieOf(t *testing.T, w *httptest.ResponseRecorder) string {
	cookies := w.Result().Cookies()
	require.Len(t, cookies, 1)
	return cookies[0].Name + "=" + cookies[0].Value
}

// With scs, signing out ends the streams, an old cookie lets nobody in, and the idle and the
// absolute timeout count with a stream open.
func TestSCSRecipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manager := &scs.SessionManager{
			IdleTimeout: 20 * time.Minute, Lifetime: time.Hour, Store: memstore.NewWithCleanupInterval(0), Codec: scs.GobCodec{},
			Cookie: scs.SessionCookie{Name: "session", HttpOnly: true, Path: "/", SameSite: http.SameSiteLaxMode},
		}
		manager.ErrorFunc = func(http.ResponseWriter, *http.Request, error) { assert.Fail(t, "no error") }
		hub := new(broadcast.Hub)
		streams, signOut := scsStreams(manager, hub)
		signIn := manager.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, manager.RenewToken(r.Context()))
			manager.Put(r.Context(), "user", "ann")
		}))
		page := manager.LoadAndSave(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))

		require.Equal(t, 401, stream(t, streams, "", "").Status())
		cookie := cookieOf(t, call(signIn, "POST", "", ""))
		s := stream(t, streams, "Cookie", cookie)
		require.Equal(t, 200, s.Status())
		publishTo(t, hub, "users/ann")
		require.Equal(t, "hi", string(s.Next().Data))
		other := stream(t, streams, "Cookie", cookieOf(t, call(signIn, "POST", "", "")))
		require.Equal(t, 200, other.Status())
		require.Equal(t, 200, call(signOut, "POST", "Cookie", cookie).Code)
		require.NoError(t, s.End())
		s.Reconnect()
		require.Contains(t, []int{401, 403}, s.Status())
		synctest.Wait()
		require.Equal(t, 200, stream(t, streams, "Cookie", cookieOf(t, call(signIn, "POST", "", ""))).Status(), "another sign-in")

		cookie = cookieOf(t, call(signIn, "POST", "", ""))
		s = stream(t, streams, "Cookie", cookie)
		began := time.Now()
		time.Sleep(15 * time.Minute)
		call(page, "GET", "Cookie", cookie) // the user does something
		endsAt(t, s, began.Add(20*time.Minute))
		s.Reconnect()
		require.Equal(t, 200, s.Status(), "the user was not idle")
		endsAt(t, s, began.Add(40*time.Minute))
		s.Reconnect()
		require.Equal(t, 401, s.Status(), "the user was idle, with a stream open")

		cookie = cookieOf(t, call(signIn, "POST", "", ""))
		began = time.Now()
		for time.Since(began) < 50*time.Minute { // the user is never idle
			time.Sleep(10 * time.Minute)
			require.Equal(t, 200, call(page, "GET", "Cookie", cookie).Code)
		}
		s = stream(t, streams, "Cookie", cookie)
		endsAt(t, s, began.Add(time.Hour))
		s.Reconnect()
		require.Equal(t, 401, s.Status(), "the absolute timeout")
	})
}

// endsAt waits until a stream ends, at a time.
func endsAt(t *testing.T, s *ssetest.Stream, at time.Time) {
	t.Helper()
	require.Equal(t, 200, s.Status())
	time.Sleep(time.Until(at) - time.Second)
	require.NoError(t, s.End())
	require.WithinDuration(t, at, time.Now(), time.Second)
}

func publishTo(t *testing.T, hub *broadcast.Hub, topic string) {
	t.Helper()
	_, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Data: []byte("hi")})
	require.NoError(t, err)
}

// With gorilla's cookies, which nobody can delete from where they were stolen to, signing out
// ends the streams and keeps the cookie out.
func TestGorillaSessionsRecipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := gorilla.NewCookieStore([]byte("0123456789abcdef0123456789abcdef"))
		store.MaxAge(3600)
		hub := new(broadcast.Hub)
		streams, signOut := gorillaStreams(store, hub)
		signIn := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session, err := store.Get(r, "session")
			assert.NoError(t, err)
			session.Values["user"], session.Values["id"] = "ann", rand.Text()
			assert.NoError(t, session.Save(r, w))
		})
		require.Equal(t, 401, stream(t, streams, "", "").Status())
		require.Equal(t, 401, stream(t, streams, "Cookie", "session=forged").Status())
		cookie, second := cookieOf(t, call(signIn, "POST", "", "")), cookieOf(t, call(signIn, "POST", "", ""))
		s, other := stream(t, streams, "Cookie", cookie), stream(t, streams, "Cookie", second)
		require.Equal(t, 200, s.Status())
		require.Equal(t, 200, other.Status())
		publishTo(t, hub, "users/ann")
		require.Equal(t, "hi", string(s.Next().Data))
		w := call(signOut, "POST", "Cookie", cookie)
		require.Equal(t, 200, w.Code)
		require.Negative(t, w.Result().Cookies()[0].MaxAge)
		require.NoError(t, s.End())
		require.Equal(t, 403, stream(t, streams, "Cookie", cookie).Status(), "a copy of the cookie")
		require.Equal(t, "hi", string(other.Next().Data), "another session goes on")
		began := time.Now()
		for other.Status() == 200 {
			time.Sleep(10*time.Minute + time.Second)
			require.NoError(t, other.End())
			other.Reconnect()
		}
		require.Equal(t, 401, other.Status(), "the absolute timeout")
		require.InDelta(t, time.Hour, time.Since(began), float64(11*time.Minute))
	})
}

// sign returns a JWT.
func sign(t *testing.T, key []byte, subject, id string, life time.Duration) string {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Subject: subject, ID: id, ExpiresAt: jwt.NewNumericDate(time.Now().Add(life))})
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

// With JWTs a stream ends when its token expires, goes on with a fresh one of the same
// session, and ends when the session is revoked.
func TestJWTRecipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, hub := []byte("0123456789abcdef0123456789abcdef"), new(broadcast.Hub)
		streams, revoke := jwtStreams(key, hub)
		request := func(token string) *http.Request {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Sec-WebSocket-Protocol", "bearer."+token)
			return r
		}
		closes := func(c *ws.Conn) ws.StatusCode {
			for {
				if _, _, err := c.Read(t.Context()); err != nil {
					return ws.CloseStatus(err)
				}
			}
		}
		none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.RegisteredClaims{Subject: "ann", ID: "1", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}).SignedString(jwt.UnsafeAllowNoneSignatureType)
		require.NoError(t, err)
		for name, token := range map[string]string{"expired": sign(t, key, "ann", "1", -time.Minute), "another key": sign(t, []byte("x"), "ann", "1", time.Hour), "no id": sign(t, key, "ann", "", time.Hour), "not signed": none, "no token": "x"} {
			r := request(token)
			r.URL.RawQuery = "refusals=close"
			require.Equal(t, ws.StatusUnauthorized, closes(wstest.Dial(t, streams, r)), name)
		}
		began := time.Now()
		c := wstest.Dial(t, streams, request(sign(t, key, "ann", "1", 5*time.Minute)))
		time.Sleep(4 * time.Minute)
		require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"`+sign(t, key, "bob", "1", time.Hour)+`"}`)))
		require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"`+sign(t, key, "ann", "1", 5*time.Minute)+`"}`)))
		require.Equal(t, ws.StatusUnauthorized, closes(c))
		require.Equal(t, 9*time.Minute, time.Since(began).Truncate(time.Minute))

		token := sign(t, key, "ann", "2", time.Hour)
		c = wstest.Dial(t, streams, request(token))
		require.NoError(t, revoke(t.Context(), "2"))
		require.Equal(t, ws.StatusForbidden, closes(c))
		w := httptest.NewRecorder()
		again := request(token)
		again.Header.Set("Connection", "Upgrade")
		again.Header.Set("Upgrade", "websocket")
		streams.ServeHTTP(w, again)
		require.Equal(t, 403, w.Code)
	})
}

// Behind a proxy that authenticates its header counts, and a client's own does not.
func TestProxyRecipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(broadcast.Hub)
		streams, revoke := proxyStreams("the proxy's secret", hub)
		signedIn := true
		// As oauth2-proxy with --pass-user-headers: it replaces what the client has sent.
		proxy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !signedIn {
				http.Error(w, "sign in", http.StatusUnauthorized)
				return
			}
			r.Header.Set("X-Forwarded-User", "ann")
			r.Header.Set("X-Proxy-Secret", "the proxy's secret")
			streams.ServeHTTP(w, r)
		})
		require.Equal(t, 401, stream(t, streams, "X-Forwarded-User", "ann").Status(), "it did not pass the proxy")
		s := stream(t, proxy, "X-Forwarded-User", "root")
		require.Equal(t, 200, s.Status())
		publishTo(t, hub, "users/ann")
		require.Equal(t, "hi", string(s.Next().Data))
		began := time.Now()
		signedIn = false
		endsAt(t, s, began.Add(5*time.Minute))
		s.Reconnect()
		require.Equal(t, 401, s.Status(), "the proxy was asked again")
		signedIn = true
		s = stream(t, proxy, "", "")
		require.Equal(t, 200, s.Status())
		require.NoError(t, revoke(t.Context(), "ann"))
		require.NoError(t, s.End())
		require.Equal(t, 403, stream(t, proxy, "", "").Status())
	})
}

// A deleted API key ends its streams at once, also where a store still knows it.
func TestAPIKeyRecipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(broadcast.Hub)
		owners := map[[32]byte]string{sha256.Sum256([]byte("key-1")): "ann", sha256.Sum256([]byte("key-2")): "ann"}
		var failure error
		streams, revoke := keyStreams(func(_ context.Context, hash [32]byte) (string, error) { return owners[hash], failure }, hub)
		require.Equal(t, 401, stream(t, streams, "", "").Status())
		require.Equal(t, 401, stream(t, streams, "X-API-Key", "key-3").Status())
		s, other := stream(t, streams, "X-API-Key", "key-1"), stream(t, streams, "X-API-Key", "key-2")
		require.Equal(t, 200, s.Status())
		require.Equal(t, 200, other.Status())
		require.NoError(t, revoke(t.Context(), "key-1"))
		require.NoError(t, s.End())
		require.Equal(t, 403, stream(t, streams, "X-API-Key", "key-1").Status())
		publishTo(t, hub, "accounts/ann")
		require.Equal(t, "hi", string(other.Next().Data))
		failure = context.DeadlineExceeded
		require.Equal(t, 500, stream(t, streams, "X-API-Key", "key-2").Status(), "a store that fails lets nobody in")
	})
}
