// Package memnet is a network in memory, for tests in a synctest bubble: a goroutine
// that waits for it is durably blocked, so that the bubble's time advances. One that
// waits for a socket is not.
package memnet

import (
	"context"
	"net"
	"sync"
)

// Listener is a net.Listener whose connections come from its DialContext and Put. Make
// one with [Listen].
type Listener struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// Listen returns a Listener.
func Listen() *Listener {
	return &Listener{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

// DialContext connects to the listener; it fits http.Transport.DialContext. A write on
// one side blocks until the other reads it, as with net.Pipe.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	if err := l.Put(ctx, server); err != nil {
		return nil, err
	}
	return client, nil
}

// Put hands a connection to Accept, and waits until it is accepted.
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

// Close makes Accept, Put and DialContext fail with net.ErrClosed.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the same address for every Listener.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "memory" }
func (addr) String() string  { return "memory" }
