package endtoend_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
)

// A page that is reloaded again and again gets a stream within seconds where a Limit allows
// five: by then the server has noticed that the others were left, attached or detached.
func TestReloadsDoNotFillALimit(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for _, every := range []time.Duration{0, 500 * time.Millisecond, 1100 * time.Millisecond} {
			t.Run(fmt.Sprint("detached: ", detach, ", every ", every), func(t *testing.T) {
				if every > 500*time.Millisecond {
					longtest.Only(t)
				}
				t.Parallel()
				limit := &middleware.Limit{PerKey: 5, Logger: slog.New(slog.DiscardHandler)}
				hub := new(broadcast.Hub)
				server := httptest.NewServer(limit.Handler(&sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: detach, Logger: slog.New(slog.DiscardHandler)}))
				defer server.Close()
				load := func() (net.Conn, int) {
					c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", server.Listener.Addr().String())
					require.NoError(t, err)
					_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					require.NoError(t, err)
					response, err := http.ReadResponse(bufio.NewReader(c), nil)
					require.NoError(t, err)
					return c, response.StatusCode
				}
				for range 5 {
					c, status := load()
					require.Equal(t, http.StatusOK, status)
					<-time.After(every)
					require.NoError(t, c.Close())
				}
				began := time.Now()
				for {
					c, status := load()
					c.Close()
					if status == http.StatusOK {
						break
					}
					require.Less(t, time.Since(began), 10*time.Second)
					<-time.After(20 * time.Millisecond)
				}
				t.Logf("it got a stream after %v", time.Since(began))
				require.Less(t, time.Since(began), 4*time.Second)
				require.NoError(t, hub.Close())
			})
		}
	}
}
