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

// Dial makes a handshake with a handler, which runs in net/http's server in
// memory, and returns the client's connection. It fails the test if the handler
// refuses; to test a refusal, call the handler with httptest.NewRecorder. All ends
// with the test; a handler that does not return then fails it.
//
// The request is one of httptest.NewRequest or http.NewRequest; what it has in its
// header is offered, subprotocols too. The handler sees its RemoteAddr and the
// values in its context.
//
// The connection reads ahead, however much comes, so that a test which sleeps is no
// slow client and answers pings.
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
		c.Header.Del(own) // of the handshake, which makes its own
	}
	return ws.Dial(ctx, c.URL.String(), &options)
}

// Pipe returns the two ends of a connection in memory: the server's with the default
// options, the client's like that of [Dial]. Both read ahead, and end with the test.
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
