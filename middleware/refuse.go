package middleware

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"

	"github.com/fanfare-go/fanfare"
)

// refuse refuses a stream, and logs that once, with the path and without the query,
// which may contain a token.
func refuse(w http.ResponseWriter, r *http.Request, logger *slog.Logger, refusal *fanfare.Refusal) {
	cmp.Or(logger, slog.Default()).InfoContext(context.WithoutCancel(r.Context()), "middleware: refused a stream",
		"path", r.URL.Path, "status", refusal.Status, "reason", refusal.Err)
	fanfare.Refuse(w, r, refusal)
}
