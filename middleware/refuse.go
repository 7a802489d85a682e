package middleware

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare"
)

// refuse answers a request that may not become a stream, and logs it once: the path
// and not the query, where a token may be.
func refuse(w http.ResponseWriter, r *http.Request, logger *slog.Logger, status int, retryAfter time.Duration, plain bool, reason error) {
	if logger == nil {
		logger = slog.Default()
	}
	logger.Log(context.WithoutCancel(r.Context()), slog.LevelInfo, "middleware: refused a stream",
		"path", r.URL.Path, "status", status, "reason", reason)
	fanfare.Refuse(w, r, &fanfare.Refusal{Status: status, RetryAfter: retryAfter, Plain: plain})
}
