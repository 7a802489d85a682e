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

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/ratelog"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Limit bounds how many streams there are at the same time, and how fast clients open
// them. It counts each request that passes it until its handler has returned and its
// stream has ended: mount it around streams, not around everything.
//
// The zero Limit refuses nothing. The fields are set before the first use; a Limit must
// not be copied after that.
type Limit struct {
	// Total is how many streams this server accepts. One more is refused with 503. If
	// zero, there is no limit; it must not be negative.
	Total int

	// PerKey is how many streams each key may have. One more is refused with 429. If
	// zero, there is no limit; it must not be negative.
	PerKey int

	// Rate is how many streams per second each key may open, in bursts of as many, at
	// least one: 0.1 is one in ten seconds. One more is refused with 429, and does not
	// count. A long poll is a stream, too. Among tens of thousands of keys in that time
	// some may open more. If zero, there is no limit; it must not be negative.
	Rate float64

	// Key returns the key that a request counts for: its user, its room, its address.
	// If it returns "", the request counts for Total only. If nil, the key is the
	// address that the connection comes from, and of an IPv6 address the first 64
	// bits. Behind a proxy that is the proxy's address: set a Key that knows the
	// client's.
	Key func(*http.Request) string

	// Plain refuses an EventSource with the status itself. By default it is answered
	// with 200, a time to reconnect after, and the end of the stream, since it gives
	// up for good on any other status. Set Plain if a proxy in front tries the next
	// server on 503: an EventSource that it refuses is then accepted there.
	Plain bool

	// Logger gets refusals (Info). If nil, slog.Default().
	Logger *slog.Logger

	reports ratelog.Log

	// Guarded by mu.
	mu    sync.Mutex
	total int
	keys  map[string]int // how many requests each key has, but ""
	rates rates
}

// limitRetryAfter is when a refused client may come back: others may have left by then.
const limitRetryAfter = 10 * time.Second

// Handler refuses the requests that exceed the limits. It goes inside of Origins and
// Drain, and outside of authentication unless Key needs its result.
func (l *Limit) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := l.valid(); err != nil {
			refuse(w, r, &l.reports, l.Logger, &fanfare.Refusal{Status: http.StatusInternalServerError, Plain: true, Err: err})
			return
		}
		key := l.key(r)
		if refusal := l.enter(key); refusal != nil {
			refuse(w, r, &l.reports, l.Logger, refusal)
			return
		}
		hold, ctx := streamctx.NewHold(r.Context(), func(*streamctx.Hold) { l.leave(key) })
		defer hold.Release()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (l *Limit) valid() error {
	switch {
	case l.Total < 0:
		return fmt.Errorf("middleware: Limit.Total is %d, and must not be negative", l.Total)
	case l.PerKey < 0:
		return fmt.Errorf("middleware: Limit.PerKey is %d, and must not be negative", l.PerKey)
	case !(l.Rate >= 0): // NaN included
		return fmt.Errorf("middleware: Limit.Rate is %v, and must not be negative", l.Rate)
	}
	return nil
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
	prefix, _ := addr.Prefix(64) // a client is given a whole network, and may use any address in it
	return prefix.String()
}

// enter counts a request, or returns why it is refused.
func (l *Limit) enter(key string) *fanfare.Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.Total > 0 && l.total >= l.Total:
		return l.refusal(http.StatusServiceUnavailable, errors.New("the server has as many streams as Limit.Total allows"))
	case l.PerKey > 0 && key != "" && l.keys[key] >= l.PerKey:
		return l.refusal(http.StatusTooManyRequests, fmt.Errorf("%s has as many streams as Limit.PerKey allows", l.whose(key)))
	case l.Rate > 0 && key != "":
		if wait, ok := l.rates.take(key, l.Rate); !ok {
			refusal := l.refusal(http.StatusTooManyRequests, fmt.Errorf("%s opens more streams per second than Limit.Rate allows", l.whose(key)))
			refusal.RetryAfter = wait
			return refusal
		}
	}
	l.total++
	if key == "" {
		return nil
	}
	if l.keys == nil {
		l.keys = make(map[string]int)
	}
	l.keys[key]++
	return nil
}

// whose names a key in the log.
func (l *Limit) whose(key string) string {
	if l.Key != nil {
		return "the client's key" // a Key of the user's may return a secret, such as a token
	}
	return key
}

func (l *Limit) refusal(status int, err error) *fanfare.Refusal {
	return &fanfare.Refusal{Status: status, RetryAfter: limitRetryAfter, Plain: l.Plain, Err: err}
}

func (l *Limit) leave(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if key == "" {
		return
	}
	if l.keys[key]--; l.keys[key] == 0 {
		delete(l.keys, key)
	}
}
