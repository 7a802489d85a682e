package endtoend_test

import (
	"log/slog"
	"net/http"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// granting is the type of a handler's Grant hook.
type granting = func(*http.Request) (*fanfare.Grant, error)

// asked grants each client the topics that it asks for.
func asked(r *http.Request) (*fanfare.Grant, error) {
	return &fanfare.Grant{Topics: r.URL.Query()["topic"]}, nil
}

// routes returns a mux with both handlers, attached and detached.
func routes(hub *broadcast.Hub, grant granting, s sse.Options, w ws.Options) http.Handler {
	silent := slog.New(slog.DiscardHandler)
	mux := http.NewServeMux()
	for path, detach := range map[string]bool{"": false, "/detached": true} {
		mux.Handle("/sse"+path, &sse.Handler{Broadcaster: hub, Grant: grant, Detach: detach, Options: s, Logger: silent})
		mux.Handle("/ws"+path, &ws.Handler{Broadcaster: hub, Grant: grant, Detach: detach, Options: w, Logger: silent})
	}
	return mux
}
