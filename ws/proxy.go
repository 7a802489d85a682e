package ws

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// proxied is a handshake through an HTTP proxy. net/http has a proxy tunnel to a wss://
// server, and forward a request to a ws:// server. Many proxies do not forward an upgrade,
// so that RFC 6455 section 4.1 has a client ask for a tunnel in both cases.
type proxied struct {
	transport *http.Transport
	proxy     *url.URL
}

// proxyOf returns how a request goes through an HTTP proxy; nil if it does not, or if that
// cannot be known.
func proxyOf(next http.RoundTripper, r *http.Request) *proxied {
	t, ok := next.(*http.Transport)
	if !ok || t.Proxy == nil {
		return nil
	}
	proxy, err := t.Proxy(r)
	if err != nil || proxy == nil || proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil // the transport returns the error; a SOCKS proxy tunnels everything
	}
	return &proxied{t, proxy}
}

// tunnelError is why a proxy has no tunnel to a ws:// server.
type tunnelError struct {
	proxy, to, status string
}

func (e *tunnelError) Error() string {
	return fmt.Sprintf("the proxy %s does not tunnel to %s (%s), nor forward the upgrade: "+
		"use wss://, since most proxies tunnel to port 443, or a Transport whose Proxy is nil for this host", e.proxy, e.to, e.status)
}

// roundTrip sends the handshake. If it goes to a ws:// server whose proxy refuses a tunnel,
// the proxy may still forward it.
func (p *proxied) roundTrip(r *http.Request) (*http.Response, *tunnelError, error) {
	if r.URL.Scheme == "https" {
		response, err := p.transport.RoundTrip(r)
		return response, nil, p.named(err)
	}
	tunnelling := p.transport.Clone()
	tunnelling.Proxy = nil
	tunnelling.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
		return p.dial(r.Context(), network, addr) // the transport's own context goes on, for other requests
	}
	tunnelling.DisableKeepAlives = true // the clone keeps no connection, and upgraded ones are not affected
	response, err := tunnelling.RoundTrip(r)
	refused, ok := errors.AsType[*tunnelError](err)
	if !ok {
		return response, nil, p.named(err)
	}
	response, err = p.transport.RoundTrip(r)
	if err != nil {
		err = fmt.Errorf("%w; %w", refused, err)
	}
	return response, refused, err
}

// named adds the proxy to an error.
func (p *proxied) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("through the proxy %s: %w", p.proxy.Redacted(), err)
}

// dial connects to addr through the proxy.
func (p *proxied) dial(ctx context.Context, network, addr string) (_ net.Conn, err error) {
	conn, err := p.dialProxy(ctx, network)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	header, err := p.connectHeader(ctx, addr)
	if err != nil {
		return nil, err
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: header}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	buffered := bufio.NewReader(conn)
	response, err := http.ReadResponse(buffered, request)
	switch {
	case err != nil && ctx.Err() == nil: // it does not know the method
		return nil, &tunnelError{p.proxy.Redacted(), addr, err.Error()}
	case err != nil:
		return nil, context.Cause(ctx)
	case p.transport.OnProxyConnectResponse != nil:
		if err := p.transport.OnProxyConnectResponse(ctx, p.proxy, request, response); err != nil {
			return nil, err
		}
	}
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		return nil, &tunnelError{p.proxy.Redacted(), addr, response.Status}
	case buffered.Buffered() > 0:
		return nil, errors.New("the server has spoken before the client")
	}
	return conn, nil
}

// connectHeader returns the header of a CONNECT request, as net/http makes it.
func (p *proxied) connectHeader(ctx context.Context, addr string) (http.Header, error) {
	header := p.transport.ProxyConnectHeader
	if p.transport.GetProxyConnectHeader != nil {
		var err error
		if header, err = p.transport.GetProxyConnectHeader(ctx, p.proxy, addr); err != nil {
			return nil, err
		}
	}
	if header = header.Clone(); header == nil {
		header = make(http.Header)
	}
	if user := p.proxy.User; user != nil && header.Get("Proxy-Authorization") == "" {
		password, _ := user.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	return header, nil
}

// dialProxy connects to the proxy, as the transport does.
func (p *proxied) dialProxy(ctx context.Context, network string) (net.Conn, error) {
	port := "80"
	if p.proxy.Scheme == "https" {
		port = "443"
	}
	addr := net.JoinHostPort(p.proxy.Hostname(), cmp.Or(p.proxy.Port(), port))
	t := p.transport
	dial := t.DialContext
	if p.proxy.Scheme == "https" && t.DialTLSContext != nil {
		return t.DialTLSContext(ctx, network, addr)
	}
	//lint:ignore SA1019 a Transport may still have it
	old := t.Dial
	switch {
	case dial == nil && old != nil:
		dial = func(_ context.Context, network, addr string) (net.Conn, error) { return old(network, addr) }
	case dial == nil:
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, addr)
	if err != nil || p.proxy.Scheme == "http" {
		return conn, err
	}
	config := new(tls.Config)
	if t.TLSClientConfig != nil {
		config = t.TLSClientConfig.Clone()
	}
	config.NextProtos = nil // the tunnel is one of HTTP/1
	config.ServerName = cmp.Or(config.ServerName, p.proxy.Hostname())
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}
