package browsers_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// A page gets a stream of another origin that lists it, with cookies only if it asks for that. A
// WebSocket always has them. After redirects, too, a page of an origin that is not listed is refused.
func TestOtherOrigins(t *testing.T) { inEach(t, otherOrigins) }

func otherOrigins(t *testing.T, e *engine) {
	home := newSite(t)
	other := newSite(t, func(mux *http.ServeMux, hub *broadcast.Hub) {
		silent := slog.New(slog.DiscardHandler)
		snapshot := func(r *http.Request) (*fanfare.Grant, error) {
			_, err := r.Cookie("user")
			return &fanfare.Grant{Topics: []string{"a"}, Snapshot: snapshotOf(fmt.Sprint("cookie ", err == nil))}, nil
		}
		for path, listed := range map[string][]string{"listed": {home.url("")}, "closed": nil} {
			origins := &middleware.Origins{Allow: listed, Logger: silent}
			mux.Handle("/"+path+"/ws", origins.Handler(&ws.Handler{Broadcaster: hub, Grant: snapshot, Logger: silent}))
			mux.Handle("/"+path+"/events", origins.Handler(&sse.Handler{Broadcaster: hub, Grant: snapshot, Logger: silent}))
			mux.Handle("/moved/"+path+"/events", origins.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/"+path+"/events?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
			})))
		}
	})
	p := home.open(t, e)
	p.run("document.cookie = 'user=ann; path=/'")
	const authorized = "transports: ['sse'], headers: { Authorization: 'Bearer x' }"
	for _, options := range append(transports[:2:2], authorized, transports[3]) {
		for _, withCredentials := range []bool{false, true} {
			for _, path := range []string{"/listed", "/moved/listed"} {
				if path == "/moved/listed" && options == transports[0] {
					continue // a browser follows no redirect of a handshake
				}
				p.run(fmt.Sprintf("window.stream?.close(); got.length = 0; fanfare({ ws: '%[1]s/ws', sse: '%[1]s/events', withCredentials: %v, %s })", other.url(path), withCredentials, options))
				p.until("got.length === 1")
				want := fmt.Sprint("cookie ", withCredentials || options == transports[0])
				require.Equal(t, want, evaluate[string](p, "got[0]"), "%s %s", options, path)
			}
		}
		for _, path := range []string{"/closed", "/moved/closed"} {
			p.run(fmt.Sprintf("stream.close(); got.length = 0; states.length = 0; fanfare({ ws: '%[1]s/ws', sse: '%[1]s/events', %s })", other.url(path), options))
			p.until("states.includes('waiting')")
			require.Empty(t, evaluate[[]string](p, "got"))
		}
	}
	require.Empty(t, evaluate[[]string](p, "errors"))
}
