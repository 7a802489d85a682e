package clustertest

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy is the network between one client of an engine and the engine.
type Proxy struct {
	Address string // where the client connects

	listener net.Listener
	engine   func() string
	all      sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	changed *sync.Cond
	state   linkState
	links   map[*link]struct{}
	closed  bool
}

// linkState is what the network does with connections.
type linkState int

const (
	forwarding linkState = iota
	stuck                // nothing arrives, and nobody is told; new connections too
	refusing             // new connections are closed at once
)

// link is one connection of the client, and that to the engine.
type link struct {
	near, far net.Conn
	dead      bool // nothing that it carries arrives any more, and nobody is told
}

// NewProxy starts a proxy to an engine, whose address may change.
func NewProxy(t *testing.T, engine func() string) *Proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Address: listener.Addr().String(), listener: listener, engine: engine, links: make(map[*link]struct{})}
	p.changed = sync.NewCond(&p.mu)
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.connect(near) })
	}
}

// connect carries one connection.
func (p *Proxy) connect(near net.Conn) {
	p.mu.Lock()
	for p.state == stuck && !p.closed {
		p.changed.Wait()
	}
	refused := p.state == refusing || p.closed
	p.mu.Unlock()
	if refused {
		_ = near.Close()
		return
	}
	far, err := net.Dial("tcp", p.engine())
	if err != nil {
		_ = near.Close()
		return
	}
	l := &link{near: near, far: far}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.close()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.carry(l, far, near) })
	both.Go(func() { p.carry(l, near, far) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// carry copies what one side sends to the other. It ends when either side has closed, but
// the end of a dead link is told to nobody.
func (p *Proxy) carry(l *link, to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		for (p.state == stuck || l.dead) && !p.closed {
			p.changed.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			l.close()
			return
		}
	}
}

func (l *link) close() {
	_ = l.near.Close()
	_ = l.far.Close()
}

// change changes the state, and lets everybody notice.
func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.changed.Broadcast()
}

// Hold keeps what both sides send, and new connections, until Release.
func (p *Proxy) Hold() { p.change(func() { p.state = stuck }) }

// Release forwards again, and all that was kept first.
func (p *Proxy) Release() { p.change(func() { p.state = forwarding }) }

// HalfOpen lets nothing arrive any more that the present connections carry, and tells nobody.
// New ones work.
func (p *Proxy) HalfOpen() {
	p.change(func() {
		for l := range p.links {
			l.dead = true
		}
	})
}

// Cut breaks all connections, and closes new ones at once, until Release.
func (p *Proxy) Cut() {
	p.change(func() {
		p.state = refusing
		for l := range p.links {
			l.close()
		}
	})
}

// close ends the proxy.
func (p *Proxy) close() {
	_ = p.listener.Close()
	p.change(func() {
		p.closed = true
		for l := range p.links {
			l.close()
		}
	})
	p.all.Wait()
}
