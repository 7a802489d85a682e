package wstest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/ws"
)

// patience is how long a handshake may take.
const patience = time.Minute

// Dial opens a WebSocket to a handler, which runs in net/http's server in memory, and
// returns the client's connection. The test fails if the handler refuses; to test a
// refusal, call the handler with an httptest.ResponseRecorder. The connection and the
// server are closed when the test ends. The test fails if the handler does not return
// then.
//
// The request comes from httptest.NewRequest or http.NewRequest. Its header is sent,
// including the subprotocols to offer. The handler sees its RemoteAddr, its TLS state and
// the values of its context.
//
// The connection reads ahead without a limit ([ws.Conn.ReadAhead]), so that a test that
// sleeps answers pings and is not a slow client.
func Dial(t testing.TB, h http.Handler, r *http.Request) *ws.Conn {
	t.Helper()
	s := memnet.NewServer(h, r, new(faults.Link))
	memnet.Serve(t, s)
	c, err := dial(s, r)
	if err != nil {
		t.Fatalf("wstest: %v", err)
	}
	t.Cleanup(func() { c.CloseNow() })
	c.ReadAhead(-1)
	return c
}

func dial(s *memnet.Server, r *http.Request) (*ws.Conn, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	c := memnet.ClientRequest(ctx, r)
	options := ws.DialOptions{HTTPClient: s.Client(), Header: c.Header}
	options.Options.MaxMessage = -1
	for _, value := range c.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(value, ",") {
			options.Options.Subprotocols = append(options.Options.Subprotocols, strings.TrimSpace(name))
		}
	}
	for _, own := range []string{"Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"} {
		c.Header.Del(own) // the handshake sets it
	}
	return ws.Dial(ctx, c.URL.String(), &options)
}

// Pipe returns the two ends of a WebSocket in memory. The server's end has the default
// options, the client's is like that of [Dial]. Both read ahead without a limit and are
// closed when the test ends.
func Pipe(t testing.TB) (client, server *ws.Conn) {
	t.Helper()
	upgraded := make(chan *ws.Conn, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(upgraded)
		c, err := ws.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		upgraded <- c
		<-c.Context().Done()
	})
	client = Dial(t, h, httptest.NewRequest(http.MethodGet, "/", nil))
	if server = <-upgraded; server == nil {
		t.Fatal("wstest: the server's side was not upgraded")
	}
	server.ReadAhead(-1)
	return client, server
}
