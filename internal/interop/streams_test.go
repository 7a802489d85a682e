package interop_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// kind is a kind of stream. Each begins with the newest message.
type kind struct {
	name   string
	socket bool
	make   func(hub *broadcast.Hub) http.Handler
}

var newest = broadcast.SubscribeOptions{Topics: []string{"prices"}, Last: 1}

func grantNewest(*http.Request) (*fanfare.Grant, error) {
	return &fanfare.Grant{Topics: newest.Topics, Last: newest.Last}, nil
}

var kinds = []kind{
	{"sse.Handler", false, func(hub *broadcast.Hub) http.Handler {
		return &sse.Handler{Broadcaster: hub, Grant: grantNewest, Logger: silent}
	}},
	{"sse.Handler detached", false, func(hub *broadcast.Hub) http.Handler {
		return &sse.Handler{Broadcaster: hub, Grant: grantNewest, Logger: silent, Detach: true, Options: sse.Options{Heartbeat: soon}}
	}},
	{"sse.Writer", false, func(hub *broadcast.Hub) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if err != nil {
				return
			}
			defer s.Close()
			for m, err := range broadcast.Messages(s.Context(), hub, newest) {
				if err != nil || s.Send(sse.Event{Type: m.Type, Data: m.Data}) != nil {
					return
				}
			}
		})
	}},
	{"ws.Handler", true, func(hub *broadcast.Hub) http.Handler {
		return &ws.Handler{Broadcaster: hub, Grant: grantNewest, Encode: ws.Raw, Logger: silent}
	}},
	{"ws.Handler detached", true, func(hub *broadcast.Hub) http.Handler {
		return &ws.Handler{Broadcaster: hub, Grant: grantNewest, Encode: ws.Raw, Logger: silent, Detach: true}
	}},
	{"ws.Upgrade", true, func(hub *broadcast.Hub) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := ws.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			c.CloseRead()
			for m, err := range broadcast.Messages(c.Context(), hub, newest) {
				if err != nil || c.Write(c.Context(), ws.Text, m.Data) != nil {
					return
				}
			}
		})
	}},
}

// chained is a kind of stream below a middleware, with a Bypass outside of it or not.
type chained struct {
	kind
	bypass bool
	*httptest.Server
	client   *http.Client
	returned chan struct{} // a value for each request of a stream whose handlers have returned
}

// eachChain runs f for each kind of stream at /stream, below a middleware. Other paths
// are other's, below the same middleware.
func eachChain(t *testing.T, wrap func(http.Handler) http.Handler, other http.Handler, f func(t *testing.T, c *chained)) {
	for _, k := range kinds {
		for way, bypass := range map[string]bool{"with Bypass": true, "without": false} {
			t.Run(k.name+"/"+way, func(t *testing.T) {
				hub := &broadcast.Hub{Logger: silent}
				t.Cleanup(func() { hub.Close() })
				_, err := hub.Publish(t.Context(), tick("newest"))
				require.NoError(t, err)
				mux := http.NewServeMux()
				mux.Handle("/stream", k.make(hub))
				if other != nil {
					mux.Handle("/", other)
				}
				h := wrap(mux)
				if bypass {
					h = middleware.Bypass(h)
				}
				c := &chained{kind: k, bypass: bypass, returned: make(chan struct{}, 10)}
				c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					h.ServeHTTP(w, r)
					if r.URL.Path == "/stream" {
						c.returned <- struct{}{}
					}
				}))
				t.Cleanup(c.Server.Close)
				client, done := ownTransport()
				t.Cleanup(done)
				c.client = client
				f(t, c)
			})
		}
	}
}

// open opens the stream, reads the newest message, and returns the answer's header and
// how the client leaves.
func (c *chained) open(t *testing.T, header http.Header) (answer http.Header, leave func()) {
	t.Helper()
	if c.socket {
		var response *http.Response
		client := *c.client
		client.Transport = noting{c.client.Transport, &response}
		conn, err := ws.Dial(t.Context(), c.URL+"/stream", &ws.DialOptions{HTTPClient: &client, Header: header})
		require.NoError(t, err)
		_, data, err := conn.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "newest", string(data))
		return response.Header, func() { conn.CloseNow() }
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL+"/stream", nil)
	require.NoError(t, err)
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := c.client.Do(r) // which asks for gzip, and decodes it
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	events := sse.NewReader(response.Body)
	for {
		e, err := events.Read()
		require.NoError(t, err)
		if len(e.Data) > 0 {
			require.Equal(t, "newest", string(e.Data))
			return response.Header, func() { response.Body.Close() }
		}
	}
}

// noting is a transport that keeps the last response.
type noting struct {
	http.RoundTripper
	last **http.Response
}

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := n.RoundTripper.RoundTrip(r)
	*n.last = response
	return response, err
}
