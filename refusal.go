package fanfare

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/internal/status"
)

// Refusal is the error with which a handler's Grant hook refuses a client. Any
// other error of the hook is answered with 500.
type Refusal struct {
	// Status is the HTTP status of the answer: 4xx, 5xx, or 204, which tells an
	// EventSource to stop. If zero, 403.
	Status int

	// RetryAfter is how long the client should wait before it tries again, for a
	// temporary Status (429, 503). If zero, the client decides. An EventSource waits
	// for a random time between 1 s and 5 s, or RetryAfter if that is longer than 5 s.
	RetryAfter time.Duration

	// Plain sends an EventSource the Status itself, which makes it give up for good.
	// It is for a proxy that tries the next server on 503, so that the EventSource
	// does not get the refusal. See [Refuse].
	Plain bool

	// Err is the reason, which is logged and not sent to the client.
	Err error
}

func (r *Refusal) Error() string {
	if r.Err == nil {
		return fmt.Sprintf("fanfare: refused with status %d", r.Status)
	}
	return fmt.Sprintf("fanfare: refused with status %d: %v", r.Status, r.Err)
}

// Unwrap returns the reason.
func (r *Refusal) Unwrap() error { return r.Err }

// An EventSource that is refused with a temporary status comes back after a random
// time of at least minRetry and at most maxRetry, or at most RetryAfter if that is
// longer.
const minRetry, maxRetry = time.Second, 5 * time.Second

// Refuse answers a request for a stream with a refusal, as the kit's handlers do: it
// sends the status and its text. A nil refusal is the same as a zero one. If Status is
// not one that can refuse a stream, the answer is 500.
//
// An EventSource gives up for good on any status but 200 (WHATWG HTML 9.2.3). It is
// therefore sent a temporary refusal (408, 425, 429 and 5xx) as a stream that ends at
// once, with status 200, a Retry-After header and a retry field. The time is random, so
// that clients that were refused together do not come back together. Any other client
// gets the status itself, since a fetch-based one may take the end of a stream as final.
func Refuse(w http.ResponseWriter, r *http.Request, refusal *Refusal) {
	if refusal == nil {
		refusal = &Refusal{}
	}
	code := refusal.Status
	switch {
	case code == 0:
		code = http.StatusForbidden
	case !status.Refuses(code):
		code = http.StatusInternalServerError
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.ProtoMajor == 1 && r.Header.Get("Upgrade") != "" && header.Get("Connection") != "close" {
		header.Set("Connection", "close") // frames that follow must not be parsed as a request
	}
	if refusal.RetryAfter > 0 {
		setRetryAfter(header, refusal.RetryAfter)
	}
	switch {
	case !refusal.Plain && status.MayPass(code) && isEventSource(r):
		retry := minRetry + rand.N(max(refusal.RetryAfter, maxRetry)-minRetry+1)
		retry = retry.Truncate(time.Millisecond) // the unit of the retry field, with which Retry-After has to agree
		if refusal.RetryAfter <= 0 {
			setRetryAfter(header, retry)
		}
		header.Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		// An error means that the client has left.
		_, _ = w.Write([]byte("retry: " + strconv.FormatInt(retry.Milliseconds(), 10) + "\n\n"))
	case code == http.StatusNoContent: // it has no body
		w.WriteHeader(code)
	default:
		http.Error(w, http.StatusText(code), code)
	}
}

// setRetryAfter sets the header in whole seconds, rounded up (RFC 9110 section
// 10.2.3).
func setRetryAfter(header http.Header, after time.Duration) {
	header.Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
}

// isEventSource reports whether a request comes from a browser's EventSource, which
// sends exactly these two headers. A fetch-based client does not send both.
func isEventSource(r *http.Request) bool {
	return len(r.Header.Values("Accept")) == 1 &&
		strings.TrimSpace(r.Header.Get("Accept")) == "text/event-stream" &&
		strings.TrimSpace(r.Header.Get("Cache-Control")) == "no-cache"
}
