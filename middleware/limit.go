package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/status"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Limit bounds how many streams there are at once. Whatever passes it takes a place,
// which it holds until its handler has returned and its stream has ended: mount it
// around streams, not around everything. Its fields are set before its first use; it
// must not be copied after that.
type Limit struct {
	// Total is how many streams there may be on this server. One more is refused with
	// 503. If zero, there is no limit.
	Total int

	// PerKey is how many each key may have. One more is refused with 429. If zero,
	// there is no limit.
	PerKey int

	// Key says whose place a request takes: a user's, a room's, an address'. If it
	// returns "", the request counts for Total alone. If nil, it is the address that
	// the connection comes from, of IPv6 the first 64 bits. Behind a proxy that is the
	// proxy's: give a Key that knows the client's.
	Key func(*http.Request) string

	// Plain refuses everybody with the status itself. Without it an EventSource, which
	// gives up for good on any status but 200, is answered with 200, a time to
	// reconnect after, and the end. Behind a proxy that tries the next server on 503
	// set Plain: it makes the EventSource's next try land elsewhere.
	Plain bool

	// Logger gets refusals (Info). If nil, slog.Default().
	Logger *slog.Logger

	mu    sync.Mutex
	total int
	keys  map[string]map[*streamctx.Hold]struct{}
}

// retryAfter is when a client may find a place that somebody has left.
const retryAfter = 10 * time.Second

// Handler lets next have the requests for which there is a place. It goes inside of
// Origins and Drain and outside of authentication, unless Key needs what that finds
// out.
func (l *Limit) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.Total < 0 || l.PerKey < 0 {
			refuse(w, r, l.Logger, http.StatusInternalServerError, 0, true,
				fmt.Errorf("middleware: Limit.Total is %d and Limit.PerKey is %d: they must not be negative", l.Total, l.PerKey))
			return
		}
		key := l.key(r)
		var hold *streamctx.Hold
		hold, ctx := streamctx.NewHold(r.Context(), func() { l.leave(key, hold) })
		if status, err := l.enter(key, hold); err != nil {
			refuse(w, r, l.Logger, status, retryAfter, l.Plain, err)
			return
		}
		defer hold.Release()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (l *Limit) key(r *http.Request) string {
	if l.Key != nil {
		return l.Key(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		return addr.String()
	}
	prefix, _ := addr.Prefix(64) // what a client is given: it may have any address in it
	return prefix.String()
}

func (l *Limit) enter(key string, hold *streamctx.Hold) (status int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.Total > 0 && l.total >= l.Total:
		return http.StatusServiceUnavailable, errors.New("as many streams as Limit.Total allows")
	case l.PerKey > 0 && key != "" && len(l.keys[key]) >= l.PerKey:
		err = errors.New("as many streams of its key as Limit.PerKey allows")
		if l.Key == nil { // else it may be what nobody is to read, such as a token
			err = fmt.Errorf("as many streams of %s as Limit.PerKey allows", key)
		}
		return http.StatusTooManyRequests, err
	}
	l.total++
	if key != "" {
		if l.keys == nil {
			l.keys = make(map[string]map[*streamctx.Hold]struct{})
		}
		if l.keys[key] == nil {
			l.keys[key] = make(map[*streamctx.Hold]struct{})
		}
		l.keys[key][hold] = struct{}{}
	}
	return 0, nil
}

func (l *Limit) leave(key string, hold *streamctx.Hold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if delete(l.keys[key], hold); len(l.keys[key]) == 0 {
		delete(l.keys, key)
	}
}

// Disconnect ends all streams of a key on this server, such as those of a user whose
// rights were revoked, and returns how many places they had. A WebSocket is closed
// with the code and the reason; a code of zero is 3003 (forbidden), and so is one that
// cannot be sent. An event stream just ends, and its client comes back: it is up to
// Grant to refuse it then. A request that has not become a stream yet ends as it does.
func (l *Limit) Disconnect(key string, code int, reason string) int {
	if !status.Sendable(code) {
		code = 3003
	}
	l.mu.Lock()
	holds := make([]*streamctx.Hold, 0, len(l.keys[key]))
	for hold := range l.keys[key] {
		holds = append(holds, hold)
	}
	l.mu.Unlock()
	for _, hold := range holds {
		hold.End(streamctx.End{Code: code, Reason: reason})
	}
	return len(holds)
}
