// Package memnet is a network in memory, for tests in a synctest bubble: unlike
// sockets, waiting for it lets the bubble's time go on.
package memnet

import (
	"context"
	"net"
	"sync"
)

// Listener is a net.Listener that is dialed by DialContext. Use [Listen].
type Listener struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// Listen returns a Listener.
func Listen() *Listener {
	return &Listener{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

// DialContext connects to the listener, as http.Transport.DialContext does. What
// one side writes waits until the other reads it.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	if err := l.Put(ctx, server); err != nil {
		return nil, err
	}
	return client, nil
}

// Put lets Accept return a connection.
func (l *Listener) Put(ctx context.Context, server net.Conn) error {
	select {
	case l.accepted <- server:
		return nil
	case <-l.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Accept returns the server's side of the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close lets Accept and DialContext fail.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns an address that says nothing.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "memory" }
func (addr) String() string  { return "memory" }
