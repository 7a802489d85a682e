// Package stream is what middleware and the streams below it agree on.
package stream

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// minRetry is how long an EventSource waits at least before it tries again after
// a refusal that may pass.
const minRetry, maxRetry = time.Second, 5 * time.Second

// Refuse answers a request for a stream with a status, without a stream.
//
// A browser's EventSource gives up for good on any status but 200 (WHATWG HTML
// 9.2.3). So unless plain, a refusal that may pass (429 and 5xx) is told to it as
// a stream that ends at once: 200 with a time to reconnect after, drawn at random
// so that those refused together do not come back together. Other clients are
// told the status itself: a fetch-based one takes an ended stream for its end.
func Refuse(w http.ResponseWriter, r *http.Request, status int, retryAfter time.Duration, plain bool) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if retryAfter > 0 {
		seconds := (retryAfter + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	if plain || !mayPass(status) || !isEventSource(r) {
		if status == http.StatusNoContent {
			w.WriteHeader(status)
			return
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	retry := minRetry + rand.N(max(retryAfter, maxRetry)-minRetry+1)
	if header.Get("Retry-After") == "" {
		header.Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	}
	header.Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	// The connection may be gone; then there is nobody to tell.
	_, _ = w.Write([]byte("retry: " + strconv.FormatInt(retry.Milliseconds(), 10) + "\n\n"))
}

func mayPass(status int) bool { return status == http.StatusTooManyRequests || status >= 500 }

// isEventSource recognises what a browser's EventSource sends, and fetch-based
// clients do not: both of these headers.
func isEventSource(r *http.Request) bool {
	return len(r.Header.Values("Accept")) == 1 &&
		strings.TrimSpace(r.Header.Get("Accept")) == "text/event-stream" &&
		strings.TrimSpace(r.Header.Get("Cache-Control")) == "no-cache"
}
