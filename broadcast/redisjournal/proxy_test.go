package redisjournal_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy forwards connections to a server. It drops the replies to requests that contain a
// word, and closes their connection.
type proxy struct {
	listener net.Listener

	mu   sync.Mutex // guards the fields below
	word string
	lost int
}

func startProxy(t *testing.T, s *server) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", s.address)
			if err != nil {
				near.Close()
				continue
			}
			all.Go(func() { p.forward(near, far) })
			all.Go(func() {
				_, _ = io.Copy(near, far)
				near.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait()
	})
	return p
}

func (p *proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.listener.Addr().String())
}

// lose drops the replies to requests that contain a word from now on.
func (p *proxy) lose(word string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.word = word
}

// losses returns how many replies were dropped.
func (p *proxy) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *proxy) forward(near, far net.Conn) {
	defer far.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := near.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		lost := p.word != "" && strings.Contains(string(b[:n]), p.word)
		if lost {
			p.lost++
			near.Close()
		}
		p.mu.Unlock()
		if _, err := far.Write(b[:n]); err != nil {
			return
		}
	}
}
