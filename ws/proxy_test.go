package ws_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// httpProxy is an HTTP proxy. It records the requests that it gets.
type httpProxy struct {
	tunnels  bool // to any port
	forwards bool // upgrades, too

	mu   sync.Mutex // guards seen
	seen []*http.Request
}

func (p *httpProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r)
	p.mu.Unlock()
	switch {
	case r.Method == http.MethodConnect && p.tunnels:
		server, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, client)
			server.Close()
		}()
		_, _ = io.Copy(client, server)
	case r.Method != http.MethodConnect && p.forwards:
		(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}).ServeHTTP(w, r)
	case r.Method == http.MethodConnect:
		http.Error(w, "port 443 alone", http.StatusForbidden)
	default:
		http.Error(w, "I do not forward", http.StatusNotImplemented)
	}
}

func (p *httpProxy) methods() (methods []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.seen {
		methods = append(methods, r.Method)
	}
	return methods
}

// through returns a client whose connections go through the proxy, and the proxy's
// address.
func (p *httpProxy) through(t *testing.T, secure bool, roots *x509.CertPool) (*http.Client, *url.URL) {
	server := httptest.NewUnstartedServer(p)
	if secure {
		server.StartTLS()
		roots.AddCert(server.Certificate())
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	u.User = url.UserPassword("ann", "secret")
	transport := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, u
}

// A WebSocket goes through a proxy that tunnels or forwards, with and without TLS on
// either side. A tunnel is asked for first (RFC 6455 section 4.1).
func TestDialThroughAProxy(t *testing.T) {
	for _, test := range []struct {
		name    string
		proxy   *httpProxy
		secure  bool // the connection to the proxy
		server  bool // the connection to the server
		methods []string
	}{
		{"that tunnels", &httpProxy{tunnels: true}, false, false, []string{"CONNECT"}},
		{"that tunnels, over TLS", &httpProxy{tunnels: true}, true, false, []string{"CONNECT"}},
		{"that tunnels, to TLS", &httpProxy{tunnels: true}, false, true, []string{"CONNECT"}},
		{"that tunnels and forwards", &httpProxy{tunnels: true, forwards: true}, false, false, []string{"CONNECT"}},
		{"that forwards", &httpProxy{forwards: true}, false, false, []string{"CONNECT", "GET"}},
		{"that forwards, over TLS", &httpProxy{forwards: true}, true, false, []string{"CONNECT", "GET"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(upgraded(nil, func(c *ws.Conn) { _ = echo(c) }))
			roots := x509.NewCertPool()
			if test.server {
				server.StartTLS()
				roots.AddCert(server.Certificate())
			} else {
				server.Start()
			}
			defer server.Close()
			client, _ := test.proxy.through(t, test.secure, roots)
			c, err := ws.Dial(t.Context(), strings.Replace(server.URL, "http", "ws", 1), &ws.DialOptions{HTTPClient: client})
			require.NoError(t, err)
			require.NoError(t, c.Write(t.Context(), ws.Text, []byte("hello")))
			_, got, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, "hello", string(got))
			require.NoError(t, c.Close(ws.StatusNormalClosure, ""))
			require.Equal(t, test.methods, test.proxy.methods())
			for _, r := range test.proxy.seen {
				require.Equal(t, "Basic YW5uOnNlY3JldA==", r.Header.Get("Proxy-Authorization"))
			}
		})
	}
}

// The error names the proxy, without its password, and says what works.
func TestDialNamesTheProxyThatRefuses(t *testing.T) {
	var p httpProxy
	client, u := p.through(t, false, nil)
	for _, target := range []string{"ws://server.example/", "wss://server.example/"} {
		_, err := ws.Dial(t.Context(), target, &ws.DialOptions{HTTPClient: client})
		require.ErrorContains(t, err, "proxy http://ann:xxxxx@"+u.Host, target)
		require.ErrorContains(t, err, "Forbidden")
		if strings.HasPrefix(target, "ws:") {
			require.ErrorContains(t, err, "use wss://")
			var refused *ws.HandshakeError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, http.StatusNotImplemented, refused.Status, "of the response to the request that it did not forward")
		}
	}
}

// A server's refusal is that of the server, whichever way it comes.
func TestDialThroughAProxyReturnsTheServersRefusal(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	for name, p := range map[string]*httpProxy{"tunnelled": {tunnels: true}, "forwarded": {forwards: true}} {
		client, _ := p.through(t, false, nil)
		_, err := ws.Dial(t.Context(), server.URL, &ws.DialOptions{HTTPClient: client})
		var refused *ws.HandshakeError
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, http.StatusServiceUnavailable, refused.Status)
		require.Equal(t, 7*time.Second, refused.RetryAfter)
	}
}

// A proxy that does not answer holds Dial no longer than its context, and no connection
// stays.
func TestDialThroughASilentProxyEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = io.Copy(io.Discard, conn)
		ended <- err
	}()
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = ws.Dial(ctx, "ws://server.example/", &ws.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, <-ended)
}
