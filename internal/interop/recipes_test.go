package interop_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/golang-jwt/jwt/v5"
	gorilla "github.com/gorilla/sessions"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// The recipes of docs/authentication.md, word for word.

func scsStreams(manager *scs.SessionManager, hub *broadcast.Hub) (streams, signOut http.Handler) {
	sessions := &middleware.Sessions{Broadcaster: hub, KeepOut: manager.Lifetime, Key: func(r *http.Request) string {
		return manager.Token(r.Context())
	}}
	events := &sse.Handler{Broadcaster: hub, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		user := manager.GetString(r.Context(), "user")
		if user == "" {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
		}
		expires := manager.Deadline(r.Context()) // the absolute timeout
		if idle := time.Now().Add(manager.IdleTimeout); manager.IdleTimeout > 0 && idle.Before(expires) {
			expires = idle // the session is looked at again
		}
		return &fanfare.Grant{Topics: []string{"users/" + user}, Expires: expires}, nil
	}}
	// LoadAndSave would count each reconnect as an activity of the user.
	load := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var token string
			if cookie, err := r.Cookie(manager.Cookie.Name); err == nil {
				token = cookie.Value
			}
			ctx, err := manager.Load(r.Context(), token)
			if err != nil {
				fanfare.Refuse(w, r, &fanfare.Refusal{Status: http.StatusServiceUnavailable, Err: err})
				return
			}
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	signOut = manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := manager.Token(r.Context())
		if err := errors.Join(manager.Destroy(r.Context()), sessions.Revoke(r.Context(), token, "signed out")); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	}))
	return load(sessions.Handler(events)), signOut
}

// gorillaStreams keeps the session in the cookie itself, which stays valid when it has been
// deleted: its ID is what is revoked. Sign-in sets "user", and "id" to rand.Text().
func gorillaStreams(store *gorilla.CookieStore, hub *broadcast.Hub) (streams, signOut http.Handler) {
	value := func(r *http.Request, name string) string {
		session, err := store.Get(r, "session") // an error: the cookie is not one of ours, or too old
		text, _ := session.Values[name].(string)
		if err != nil {
			return ""
		}
		return text
	}
	lifetime := time.Duration(store.Options.MaxAge) * time.Second
	sessions := &middleware.Sessions{Broadcaster: hub, KeepOut: lifetime, Key: func(r *http.Request) string {
		return value(r, "id")
	}}
	events := &sse.Handler{Broadcaster: hub, Options: sse.Options{MaxAge: 10 * time.Minute}, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		user := value(r, "user")
		if user == "" {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
		}
		return &fanfare.Grant{Topics: []string{"users/" + user}}, nil
	}}
	signOut = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := value(r, "id")
		session, _ := store.Get(r, "session")
		session.Options.MaxAge = -1
		if err := errors.Join(session.Save(r, w), sessions.Revoke(r.Context(), id, "signed out")); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
	return sessions.Handler(events), signOut
}

// jwtStreams takes tokens with sub, jti and exp.
func jwtStreams(key []byte, hub *broadcast.Hub) (streams http.Handler, revoke func(ctx context.Context, jti string) error) {
	parse := func(token string) (*jwt.RegisteredClaims, error) {
		claims := new(jwt.RegisteredClaims)
		_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
		if err != nil || claims.Subject == "" || claims.ID == "" {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized, Err: errors.Join(err, errors.New("the token is not valid"))}
		}
		return claims, nil
	}
	parseOf := func(r *http.Request) (*jwt.RegisteredClaims, error) {
		header := r.Header.Get("Authorization")
		return parse(header[min(len(header), len("Bearer ")):])
	}
	sessions := &middleware.Sessions{Broadcaster: hub, KeepOut: time.Hour, Key: func(r *http.Request) string { // as long as tokens live
		if claims, err := parseOf(r); err == nil {
			return claims.ID
		}
		return ""
	}}
	sockets := &ws.Handler{Broadcaster: hub, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		claims, err := parseOf(r)
		if err != nil {
			return nil, err
		}
		return &fanfare.Grant{Topics: []string{"users/" + claims.Subject}, Expires: claims.ExpiresAt.Time, Renew: func(token string) (time.Time, error) {
			fresh, err := parse(token)
			if err != nil {
				return time.Time{}, err
			}
			if fresh.Subject != claims.Subject || fresh.ID != claims.ID { // Sessions knows the stream by its first jti
				return time.Time{}, &fanfare.Refusal{Status: http.StatusForbidden}
			}
			return fresh.ExpiresAt.Time, nil
		}}, nil
	}}
	token := &middleware.Token{Subprotocol: "bearer."}
	return token.Handler(sessions.Handler(sockets)), func(ctx context.Context, jti string) error {
		return sessions.Revoke(ctx, jti, "signed out")
	}
}

// proxyStreams trusts X-Forwarded-User of a proxy that authenticates, such as oauth2-proxy,
// and of nobody else: the proxy sends a secret with it.
func proxyStreams(secret string, hub *broadcast.Hub) (streams http.Handler, revoke func(ctx context.Context, user string) error) {
	userOf := func(r *http.Request) string {
		given, want := sha256.Sum256([]byte(r.Header.Get("X-Proxy-Secret"))), sha256.Sum256([]byte(secret))
		if given != want { // of hashes, whose comparison tells nothing
			return ""
		}
		return r.Header.Get("X-Forwarded-User")
	}
	sessions := &middleware.Sessions{Broadcaster: hub, KeepOut: 10 * time.Minute, Key: userOf} // until the proxy knows it
	events := &sse.Handler{Broadcaster: hub, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		user := userOf(r)
		if user == "" {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
		}
		// The proxy checks its session when the client comes back.
		return &fanfare.Grant{Topics: []string{"users/" + user}, Expires: time.Now().Add(5 * time.Minute)}, nil
	}}
	return sessions.Handler(events), func(ctx context.Context, user string) error {
		return sessions.Revoke(ctx, user, "signed out")
	}
}

// keyStreams takes API keys. The store has their hashes, and find returns whose a key is.
func keyStreams(find func(ctx context.Context, hash [32]byte) (owner string, err error), hub *broadcast.Hub) (streams http.Handler, revoke func(ctx context.Context, key string) error) {
	sessions := &middleware.Sessions{Broadcaster: hub, KeepOut: 10 * time.Minute, Key: func(r *http.Request) string { // until the store knows it
		return r.Header.Get("X-API-Key")
	}}
	events := &sse.Handler{Broadcaster: hub, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		owner, err := find(r.Context(), sha256.Sum256([]byte(r.Header.Get("X-API-Key"))))
		if err != nil {
			return nil, err // 500: not let in
		}
		if owner == "" {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
		}
		return &fanfare.Grant{Topics: []string{"accounts/" + owner}}, nil
	}}
	return sessions.Handler(events), func(ctx context.Context, key string) error {
		return sessions.Revoke(ctx, key, "the key was deleted")
	}
}
