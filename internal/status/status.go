// Package status says what HTTP status codes and WebSocket close codes mean to
// a stream and to the client that comes back.
package status

import (
	"net/http"
	"strconv"
	"time"
)

// Refuses reports whether an HTTP status can refuse a stream: 4xx, 5xx, and 204,
// which tells an EventSource to stop (WHATWG HTML 9.2.3).
func Refuses(code int) bool {
	return code == http.StatusNoContent || code >= 400 && code <= 599
}

// MayPass reports whether the same request may get another answer later.
func MayPass(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

// Sendable reports whether a close frame may carry a code (RFC 6455 section 7.4):
// 1004 is reserved, and 1005, 1006 and 1015 stand for the absence of a code.
func Sendable(code int) bool {
	return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) || code >= 3000 && code <= 4999
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 24 * time.Hour

// RetryAfter returns how long a response asks its client to wait (RFC 9110 section
// 10.2.3), at most a day; 0 if it does not ask.
func RetryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return min(maxRetryAfter, time.Duration(max(0, min(seconds, 1<<30)))*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, min(time.Until(at), maxRetryAfter))
	}
	return 0
}
