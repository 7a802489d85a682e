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

	// RetryAfter is when the client may try again, for a Status that may pass (429,
	// 503). If zero, the client decides.
	RetryAfter time.Duration

	// Plain answers an EventSource with the Status itself, on which it gives up for
	// good. It is for a proxy that tries the next server on 503; see [Refuse].
	Plain bool

	// Err is the reason, for the server's log. It is not sent to the client.
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

// An EventSource whose refusal may pass comes back at a random moment between
// these, or later where RetryAfter says so.
const minRetry, maxRetry = time.Second, 5 * time.Second

// Refuse answers a request for a stream with a refusal, as the kit's handlers do:
// with its status and the text of that status. A nil refusal stands for the zero
// one. A Status that cannot refuse a stream is answered with 500.
//
// An EventSource gives up for good on any status but 200 (WHATWG HTML 9.2.3). A
// refusal that may pass (408, 425, 429 and 5xx) is therefore sent to it as a stream
// that ends at once: status 200, a Retry-After header and a retry field, drawn at
// random so that clients refused together do not come back together. Other clients
// get the status itself: a fetch-based one takes a stream that ends for its end.
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
	if refusal.RetryAfter > 0 {
		setRetryAfter(header, refusal.RetryAfter)
	}
	switch {
	case !refusal.Plain && status.MayPass(code) && isEventSource(r):
		retry := minRetry + rand.N(max(refusal.RetryAfter, maxRetry)-minRetry+1)
		if refusal.RetryAfter <= 0 {
			setRetryAfter(header, retry)
		}
		header.Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		// An error means that the client is gone: there is nobody to answer.
		_, _ = w.Write([]byte("retry: " + strconv.FormatInt(retry.Milliseconds(), 10) + "\n\n"))
	case code == http.StatusNoContent: // which has no body
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

// isEventSource recognises what a browser's EventSource sends and fetch-based
// clients do not: both of these headers.
func isEventSource(r *http.Request) bool {
	return len(r.Header.Values("Accept")) == 1 &&
		strings.TrimSpace(r.Header.Get("Accept")) == "text/event-stream" &&
		strings.TrimSpace(r.Header.Get("Cache-Control")) == "no-cache"
}
