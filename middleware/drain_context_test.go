package middleware_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// A server whose BaseContext ends before Drain has ended the streams is reported, once.
// Clients that leave, timeouts and a Drain in good order are not.
func TestDrainReportsAContextThatEndsTooEarly(t *testing.T) {
	const attached, upgraded, event = "/ws", "/upgrade", "/events"
	signalled := func(cancel context.CancelCauseFunc) { cancel(errors.New("terminated")) }
	plainly := func(cancel context.CancelCauseFunc) { cancel(nil) }
	for _, test := range []struct {
		name        string
		path        string
		connContext bool
		chain       func(http.Handler) http.Handler // around the Drain
		end         func(context.CancelCauseFunc)   // ends BaseContext; nil: it does not end
		want        int
	}{
		{name: "a WebSocket", path: attached, end: plainly, want: 1},
		{name: "a WebSocket of Upgrade", path: upgraded, end: plainly, want: 1},
		{name: "below Bypass", path: attached, chain: middleware.Bypass, end: plainly, want: 1},
		{name: "a signal's context", path: event, end: signalled, want: 1},
		{name: "with ConnContext", path: event, connContext: true, end: plainly, want: 1},
		{name: "below Bypass, with ConnContext", path: event, connContext: true, chain: middleware.Bypass, end: plainly, want: 1},

		{name: "a WebSocket whose client leaves", path: attached},
		{name: "a client of Upgrade that leaves", path: upgraded},
		{name: "a client that leaves", path: event},
		{name: "a client that leaves, with ConnContext", path: event, connContext: true},
		{name: "a timeout", path: attached, chain: chains["chi Timeout"]},
		{name: "a timeout below Bypass", path: attached, chain: func(next http.Handler) http.Handler {
			return middleware.Bypass(chains["http.TimeoutHandler"](next))
		}},
		{name: "a detached stream", path: "/detached", end: plainly},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				var log strings.Builder
				drain := &middleware.Drain{Logger: slog.New(slog.NewTextHandler(&log, nil))}
				mux := http.NewServeMux()
				mux.Handle(event, news(&hub))
				mux.Handle(attached, &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent})
				mux.Handle("/detached", &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Detach: true, Logger: silent})
				mux.HandleFunc(upgraded, func(w http.ResponseWriter, r *http.Request) {
					if c, err := ws.Upgrade(w, r, nil); err == nil {
						_ = c.Write(r.Context(), ws.Text, []byte("hello"))
						_, _, _ = c.Read(context.Background())
						c.CloseNow()
					}
				})
				h := drain.Handler(mux)
				if test.chain != nil {
					h = test.chain(h)
				}
				base, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				server := &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return base },
					ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
				if test.connContext {
					server.ConnContext = sse.ConnContext
				}
				l := memnet.Listen()
				go server.Serve(l)
				defer server.Close()
				client := &http.Client{Transport: &http.Transport{DialContext: l.DialContext, DisableKeepAlives: true}}
				var leave []func() error
				for range 3 {
					if test.path == event {
						response, err := client.Get("http://example.com" + event)
						require.NoError(t, err)
						go io.Copy(io.Discard, response.Body)
						leave = append(leave, response.Body.Close)
						continue
					}
					c, err := ws.Dial(t.Context(), "http://example.com"+test.path, &ws.DialOptions{HTTPClient: client})
					require.NoError(t, err)
					_, _, err = c.Read(t.Context())
					require.NoError(t, err)
					c.CloseRead()
					leave = append(leave, c.CloseNow)
				}
				time.Sleep(time.Minute)
				if test.end != nil {
					test.end(cancel)
					synctest.Wait()
				}
				for _, leave := range leave {
					_ = leave()
				}
				synctest.Wait()
				require.Equal(t, test.want, strings.Count(log.String(), "BaseContext"), log.String())
				require.NoError(t, drain.Shutdown(t.Context()))
				cancel(nil)
			})
		})
	}
}

// Contexts that end after Drain has asked the streams to end do no harm, and are not reported.
func TestDrainDoesNotReportContextsThatEndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		var log strings.Builder
		drain := &middleware.Drain{Spread: -1, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		base, cancel := context.WithCancel(t.Context())
		server := &http.Server{BaseContext: func(net.Listener) context.Context { return base }, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
			Handler: drain.Handler(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent})}
		l := memnet.Listen()
		go server.Serve(l)
		defer server.Close()
		c, err := ws.Dial(t.Context(), "http://example.com/", &ws.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: l.DialContext}}})
		require.NoError(t, err)
		defer c.CloseNow()
		ending, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.Error(t, drain.Shutdown(ending), "the client does not read")
		cancel()
		synctest.Wait()
		require.NotContains(t, log.String(), "BaseContext")
	})
}
