package middleware

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/ratelog"
	"github.com/fanfare-go/fanfare/internal/status"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Sessions knows the open streams of each session, user or room, and ends them: those on
// this server with Disconnect, those on all servers with Revoke. It goes inside of
// authentication and around streams of any kind; see Disconnect for those that are not
// this kit's.
//
// The zero Sessions works. The fields are set before the first use; a Sessions must not be
// copied after that.
type Sessions struct {
	// Key returns what a request belongs to: the ID of its session, its user, its room. A
	// request whose key is "" passes. If nil, the key is the [Identity] of the request.
	Key func(*http.Request) string

	// Max is how many streams each key may have on this server. One more is refused with
	// 429, or ends the oldest. If zero, there is no limit; it must not be negative.
	Max int

	// EndOldest lets one stream more than Max end the oldest one of its key, a WebSocket with
	// 3003 and "too many streams". So no client is locked out by its own connections that have
	// vanished and not timed out yet. An EventSource that is ended comes back, and ends the
	// next one: choose a Max that a user's open pages do not reach.
	EndOldest bool

	// KeepOut is how long a key stays out once it is revoked: as long as the credential is
	// valid that it stands for. With the user as the key, a new sign-in is kept out as well: use
	// the session. If zero, an hour; it must not be negative.
	KeepOut time.Duration

	// Broadcaster is the log that the servers share, a Hub with a Journal. If nil, Revoke
	// revokes on this server only.
	Broadcaster broadcast.Broadcaster

	// Topic is where Revoke publishes, with a hash of the key in place of the key. No client
	// may have this topic. Sessions with different Keys on one log need a Topic each. If
	// empty, "fanfare/sessions".
	Topic string

	// Logger gets refusals (Info). If nil, slog.Default().
	Logger *slog.Logger

	reports ratelog.Log
	once    sync.Once // sets the fields of others
	others  follower

	// Guarded by mu.
	mu      sync.Mutex
	open    map[sessionKey]*list.List // the requests of each key, the oldest first
	revoked expiring[sessionKey, struct{}]
}

// sessionKey is the hash of a key: a key may be a secret, such as the ID of a session.
type sessionKey [sha256.Size]byte

const (
	defaultKeepOut = time.Hour
	sessionsTopic  = "fanfare/sessions"
)

var (
	errRevoked = errors.New("the client's key was revoked")
	errTooMany = errors.New("the client's key has as many streams as Sessions.Max allows")
)

// Handler counts the requests that pass it, and refuses those whose key is revoked with
// 403. With a Broadcaster it refuses with 503, after five seconds, while it cannot know
// what other servers have revoked: until its Hub has read what the log has, and while the Hub
// does not follow its Journal.
func (s *Sessions) Handler(next http.Handler) http.Handler {
	if s.valid() == nil && s.Broadcaster != nil {
		go s.follow()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.valid(); err != nil {
			refuse(w, r, &s.reports, s.Logger, &fanfare.Refusal{Status: http.StatusInternalServerError, Plain: true, Err: err})
			return
		}
		name := s.name(r)
		if name == "" {
			next.ServeHTTP(w, r)
			return
		}
		if err := s.awaitOthers(r.Context()); err != nil {
			refuse(w, r, &s.reports, s.Logger, &fanfare.Refusal{Status: http.StatusServiceUnavailable, Err: fmt.Errorf("whether the client's key is revoked is not known: %w", err)})
			return
		}
		key := sessionKey(sha256.Sum256([]byte(name)))
		var place *list.Element // set by enter before the Hold can be released
		hold, ctx := streamctx.NewHold(r.Context(), func(*streamctx.Hold) { s.leave(key, place) })
		hold.SetKey(streamctx.Key(key[:]))
		place, oldest, refusal := s.enter(key, hold)
		if refusal != nil {
			refuseForGood(w, r, &s.reports, s.Logger, refusal)
			return
		}
		if oldest != nil {
			oldest.End(endOf(0, "too many streams"))
		}
		defer hold.Release()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Sessions) valid() error {
	switch {
	case s.Max < 0:
		return fmt.Errorf("middleware: Sessions.Max is %d, and must not be negative", s.Max)
	case s.KeepOut < 0:
		return fmt.Errorf("middleware: Sessions.KeepOut is %v, and must not be negative", s.KeepOut)
	}
	return nil
}

func (s *Sessions) name(r *http.Request) string {
	if s.Key != nil {
		return s.Key(r)
	}
	return Identity(r.Context())
}

// follow begins to read what the other servers revoke. A topic that nobody reads would be
// forgotten.
func (s *Sessions) follow() {
	s.configure()
	_ = s.others.open(context.Background()) // an error is met again by the first request
}

// configure is called before others is used.
func (s *Sessions) configure() {
	s.once.Do(func() {
		s.others.broadcaster, s.others.topic, s.others.apply = s.Broadcaster, cmp.Or(s.Topic, sessionsTopic), s.applyMessage
	})
}

// awaitOthers waits until this server knows what the others have revoked.
func (s *Sessions) awaitOthers(ctx context.Context) error {
	if s.Broadcaster == nil {
		return nil
	}
	s.configure()
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	return s.others.ready(ctx)
}

// enter counts a request. It returns the stream that has to end for it, or why it is refused.
func (s *Sessions) enter(key sessionKey, hold *streamctx.Hold) (place *list.Element, oldest *streamctx.Hold, _ *fanfare.Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.revoked.get(key); ok {
		return nil, nil, &fanfare.Refusal{Status: http.StatusForbidden, Err: errRevoked}
	}
	holds := s.open[key]
	if holds == nil {
		holds = list.New()
	}
	if s.Max > 0 && holds.Len() >= s.Max {
		if !s.EndOldest {
			return nil, nil, &fanfare.Refusal{Status: http.StatusTooManyRequests, RetryAfter: limitRetryAfter, Err: errTooMany}
		}
		oldest = holds.Remove(holds.Front()).(*streamctx.Hold) // it does not count while it ends
	}
	if s.open == nil {
		s.open = make(map[sessionKey]*list.List)
	}
	s.open[key] = holds
	return holds.PushBack(hold), oldest, nil
}

func (s *Sessions) leave(key sessionKey, place *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	holds := s.open[key]
	if holds == nil {
		return
	}
	holds.Remove(place) // unless it has been removed already
	if holds.Len() == 0 {
		delete(s.open, key)
	}
}

// Streams returns how many requests a key has open on this server.
func (s *Sessions) Streams(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if holds := s.open[sha256.Sum256([]byte(key))]; holds != nil {
		return holds.Len()
	}
	return 0
}

// ErrDisconnected is wrapped by the cause (context.Cause) of a context that [Sessions] has
// ended.
var ErrDisconnected = errors.New("middleware: Sessions has ended the request")

// Disconnect ends all streams of a key on this server, and returns how many requests it
// counted for the key. A WebSocket is closed with code and reason; if code is zero or cannot
// be sent, with 3003 (forbidden). An event stream just ends. Both may come back: Grant decides
// then. A request that becomes a stream later ends as soon as it has.
//
// The context of any other request ends, such as that of a stream of another library or
// of a loop of your own, with a cause that wraps [ErrDisconnected] and has the reason.
// Its handler must watch the context: nothing else can end it, nor a connection that it
// has hijacked.
func (s *Sessions) Disconnect(key string, code int, reason string) int {
	return end(s.holds(sha256.Sum256([]byte(key))), endOf(code, reason))
}

func endOf(code int, reason string) streamctx.End {
	if !status.Sendable(code) {
		code = 3003
	}
	cause := ErrDisconnected
	if reason != "" {
		cause = fmt.Errorf("%w: %s", ErrDisconnected, reason)
	}
	return streamctx.End{Code: code, Reason: reason, Cause: cause}
}

func end(holds []*streamctx.Hold, how streamctx.End) int {
	for _, hold := range holds {
		hold.End(how)
	}
	return len(holds)
}

// holds returns the requests of a key.
func (s *Sessions) holds(key sessionKey) []*streamctx.Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdsLocked(key)
}

func (s *Sessions) holdsLocked(key sessionKey) (holds []*streamctx.Hold) {
	if s.open[key] == nil {
		return nil
	}
	for e := s.open[key].Front(); e != nil; e = e.Next() {
		holds = append(holds, e.Value.(*streamctx.Hold))
	}
	return holds
}

// revocation is what Revoke publishes, with the hash of the key as the message's Key.
type revocation struct {
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until"`
}

// Revoke ends all streams of a key on every server, and keeps the key out for KeepOut: each
// request with it is refused with 403. A WebSocket is closed with 3003 (forbidden) and reason,
// after which fanfare.js does not come back; other streams end as Disconnect says.
//
// When Revoke returns nil, the streams on this server have been asked to end, and the log
// has the revocation: each other server applies it as soon as its Hub has read so far, and
// servers that start later, before they accept a stream. Without a Broadcaster it holds on
// this server. After an error the key is out on this server, and perhaps on others: call it
// again. The key "" is nobody's, and nothing happens. The servers' clocks should agree: KeepOut ends by each server's own.
func (s *Sessions) Revoke(ctx context.Context, key, reason string) error {
	if err := s.valid(); err != nil || key == "" {
		return err
	}
	hash := sessionKey(sha256.Sum256([]byte(key)))
	r := revocation{Reason: reason, Until: time.Now().Add(cmp.Or(s.KeepOut, defaultKeepOut))}
	s.revoke(hash, r)
	if s.Broadcaster == nil {
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("middleware: revoking: %w", err)
	}
	m := broadcast.Message{Topic: cmp.Or(s.Topic, sessionsTopic), Type: "revoked", Key: base64.RawURLEncoding.EncodeToString(hash[:]), Data: data}
	if _, err := s.Broadcaster.Publish(ctx, m); err != nil {
		return fmt.Errorf("middleware: the key is revoked on this server, and perhaps not on others: %w", err)
	}
	return nil
}

// applyMessage applies what a server has published, this one included.
func (s *Sessions) applyMessage(m *broadcast.Message) {
	var r revocation
	hash, err := base64.RawURLEncoding.DecodeString(m.Key)
	if err != nil || len(hash) != len(sessionKey{}) || json.Unmarshal(m.Data, &r) != nil {
		return // of somebody else
	}
	s.revoke(sessionKey(hash), r)
}

// revoke keeps a key out, and ends its streams.
func (s *Sessions) revoke(key sessionKey, r revocation) {
	if !time.Now().Before(r.Until) {
		return
	}
	s.mu.Lock()
	if known, ok := s.revoked.get(key); !ok || r.Until.After(known.until) {
		s.revoked.set(key, struct{}{}, r.Until)
	}
	holds := s.holdsLocked(key)
	s.mu.Unlock()
	end(holds, endOf(0, r.Reason))
}
