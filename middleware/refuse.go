package middleware

import (
	"log/slog"
	"net/http"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// refuse refuses a stream, and logs that, with the path and without the query, which may
// contain a token. The log has at most two lines per second of those with the same
// status.
func refuse(w http.ResponseWriter, r *http.Request, log *ratelog.Log, logger *slog.Logger, refusal *fanfare.Refusal) {
	kind := ratelog.Kind{Level: slog.LevelInfo, Message: "middleware: refused a stream", Status: refusal.Status}
	log.Write(r.Context(), logger, kind, "path", r.URL.Path, "status", refusal.Status, "reason", refusal.Err)
	fanfare.Refuse(w, r, refusal)
}
