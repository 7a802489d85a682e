package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// oneIn reports true once in n times.
func oneIn(n int) bool { return rand.IntN(n) == 0 }

// unreliable is a Conn that fails, blocks and panics at random, and checks that its
// methods are called as Conn says.
type unreliable struct {
	busy, ended atomic.Int32
	wrong       atomic.Bool // two calls at once, or one after End
	cut         chan struct{}
	once        sync.Once
	begun       chan struct{} // closed by the writer's first call
	beginOnce   sync.Once
}

func (c *unreliable) enter() (leave func()) {
	c.beginOnce.Do(func() { close(c.begun) })
	if c.busy.Add(1) != 1 || c.ended.Load() != 0 {
		c.wrong.Store(true)
	}
	return func() { c.busy.Add(-1) }
}

func (c *unreliable) Write(_ net.Buffers, w *delivery.Worker) error {
	defer c.enter()()
	switch rand.IntN(60) {
	case 0:
		return errors.New("failed")
	case 1:
		w.Wait()
		select {
		case <-c.cut:
		case <-time.After(time.Duration(rand.IntN(5)) * time.Millisecond):
		}
	case 2:
		panic("in Write")
	}
	select {
	case <-c.cut:
		return errors.New("cut")
	default:
		return nil
	}
}

func (c *unreliable) Beat(*delivery.Worker) error { defer c.enter()(); return nil }
func (c *unreliable) Tick() time.Duration         { return time.Duration(1+rand.IntN(3)) * time.Millisecond }
func (c *unreliable) Cut()                        { c.once.Do(func() { close(c.cut) }) }

func (c *unreliable) Closing() {
	time.AfterFunc(20*time.Millisecond, c.Cut)
	if oneIn(20) {
		panic("in Closing")
	}
}

func (c *unreliable) End(delivery.Reason) {
	defer c.enter()()
	c.ended.Add(1)
	if oneIn(10) {
		panic("in End")
	}
}

// unreliableGrant has functions that fail, block and panic at random.
func unreliableGrant() *fanfare.Grant {
	g := &fanfare.Grant{Topics: []string{"a", "b"}, Last: rand.IntN(3), Beginning: oneIn(2)}
	if oneIn(2) {
		g.Filter = func(*broadcast.Message) bool {
			if oneIn(50) {
				panic("in Filter")
			}
			return !oneIn(3)
		}
	}
	if oneIn(2) {
		g.Snapshot = func(ctx context.Context) ([]broadcast.Message, error) {
			switch rand.IntN(12) {
			case 0:
				panic("in Snapshot")
			case 1:
				return nil, errors.New("no database")
			case 2:
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(3 * time.Millisecond):
				}
			}
			return []broadcast.Message{{Topic: "a", Data: []byte("state")}}, nil
		}
	}
	if oneIn(4) {
		g.Expires = time.Now().Add(time.Duration(1+rand.IntN(30)) * time.Millisecond)
	}
	g.Change = func([]string) (*fanfare.Grant, error) {
		switch rand.IntN(6) {
		case 0:
			panic("in Change")
		case 1:
			return nil, errors.New("no")
		case 2:
			return nil, nil
		}
		return unreliableGrant(), nil
	}
	return g
}

// unreliableCodec is a codec that panics and leaves out at random, with messages of all
// sizes.
func unreliableCodec() *delivery.Codec {
	c := codec(true)
	message, notice := c.Message, c.Notice
	c.Message = func(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
		if oneIn(100) {
			panic("in Encode")
		}
		b, err := message(m, id)
		return append(b, make([]byte, rand.IntN(3000))...), err
	}
	c.Notice = func(n fanfare.Notice) ([]byte, error) {
		switch rand.IntN(40) {
		case 0:
			panic("in Notice")
		case 1:
			return nil, nil
		}
		return notice(n)
	}
	return c
}

// anyMessage is an event or a value, or says that a topic has ended or starts over.
func anyMessage() broadcast.Message {
	m := broadcast.Message{Topic: []string{"a", "b"}[rand.IntN(2)], Data: []byte("x")}
	switch {
	case oneIn(2):
		m.Key, m.Removed = string(rune('A'+rand.IntN(50))), oneIn(4)
	default:
		m.First, m.End = oneIn(5), oneIn(20)
	}
	return m
}

// storm is an engine whose streams are begun and ended in all ways at once.
type storm struct {
	hub    *broadcast.Hub
	engine *delivery.Engine
	codec  *delivery.Codec

	mu       sync.Mutex
	conns    []*unreliable
	contexts []context.Context
}

func newStorm() *storm {
	s := &storm{hub: &broadcast.Hub{Keep: 8}, codec: unreliableCodec()}
	s.engine = delivery.NewEngine(delivery.Config{Name: "test", Broadcaster: s.hub, Logger: quiet, Grant: func(r *http.Request) (*fanfare.Grant, error) {
		s.mu.Lock()
		s.contexts = append(s.contexts, r.Context())
		s.mu.Unlock()
		if oneIn(50) {
			panic("in Grant")
		}
		return unreliableGrant(), nil
	}})
	return s
}

// visit serves one request in a random way, and returns when its stream has ended.
func (s *storm) visit() {
	server := new(http.Server)
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), http.ServerContextKey, server))
	defer cancel()
	r := httptest.NewRequest("GET", "/?heartbeat=1", nil).WithContext(ctx)
	if oneIn(3) {
		r.Header.Set("Last-Event-ID", []string{"nonsense", "4d-3"}[rand.IntN(2)])
	}
	conn := &unreliable{cut: make(chan struct{}), begun: make(chan struct{})}
	ends := []func(*delivery.Stream){
		func(stream *delivery.Stream) { stream.End(delivery.Restart) },
		func(stream *delivery.Stream) { stream.End(delivery.Cut); conn.Cut() },
		func(stream *delivery.Stream) { stream.Change(delivery.TopicsRequest{Topics: []string{"a"}}) },
		func(*delivery.Stream) { _ = server.Shutdown(context.Background()) },
		func(*delivery.Stream) { cancel() },
	}
	way := rand.IntN(4)
	tr := &transport{mode: delivery.Mode{Codec: s.codec, Detached: way == 0}, every: 2 * time.Millisecond}
	var disturbers sync.WaitGroup
	defer disturbers.Wait()
	tr.begin = func(o *delivery.Opening) error {
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		stream := o.Stream()
		for range 4 {
			disturbers.Go(func() {
				<-conn.begun
				time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
				ends[rand.IntN(len(ends))](stream)
			})
		}
		disturbers.Go(func() { <-conn.begun; time.Sleep(60 * time.Millisecond); stream.End(delivery.Restart); <-stream.Done() })
		switch way {
		case 0, 1:
			o.Start(conn, []byte("head\n"), 40*time.Millisecond)
			if oneIn(5) {
				panic("after Start")
			}
			<-stream.Done()
		case 2:
			o.Serve(conn, nil, 40*time.Millisecond)
		default:
			o.Poll(conn, nil)
		}
		return nil
	}
	defer func() { _ = recover() }()
	s.engine.ServeHTTP(httptest.NewRecorder(), r, tr)
}

// Whatever fails, blocks or panics, and whoever ends a stream at the same time: its
// connection is written by one goroutine at a time and ended once, and nothing is left.
func TestStorm(t *testing.T) {
	for _, processors := range []int{1, 2, 32} { // with one crew of workers, and with several
		t.Run(fmt.Sprintf("processors=%d", processors), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			testStorm(t)
		})
	}
}

func testStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorm()
		stop := make(chan struct{})
		var publishers, clients sync.WaitGroup
		for range 3 {
			publishers.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					for range 8 {
						_, _ = s.hub.Publish(context.Background(), anyMessage())
					}
					s.engine.Stats()
				}
			})
		}
		for range 32 {
			clients.Go(func() {
				for range 20 {
					s.visit()
				}
			})
		}
		clients.Wait()
		close(stop)
		publishers.Wait()
		time.Sleep(time.Second)
		for _, c := range s.conns {
			require.False(t, c.wrong.Load(), "two calls at once, or one after End")
			require.EqualValues(t, 1, c.ended.Load())
		}
		stats := s.engine.Stats()
		assert.Zero(t, stats.Open)
		assert.EqualValues(t, len(s.conns), stats.Opened)
		assert.Zero(t, s.hub.Stats().Subscriptions)
		for _, ctx := range s.contexts {
			require.Error(t, ctx.Err())
		}
		_ = s.hub.Close()
	})
}

// Nothing of a stream that has ended is reachable from its engine.
func TestNothingStays(t *testing.T) {
	hub := new(broadcast.Hub)
	defer hub.Close()
	var freed atomic.Int32
	e := delivery.NewEngine(delivery.Config{Name: "test", Broadcaster: hub, Logger: quiet, Grant: func(*http.Request) (*fanfare.Grant, error) {
		pinned := new([4096]byte)
		runtime.AddCleanup(pinned, func(int) { freed.Add(1) }, 0)
		return &fanfare.Grant{Topics: []string{"a"}, Filter: func(*broadcast.Message) bool { return pinned[0] == 0 }}, nil
	}})
	server := new(http.Server)
	const n = 100
	for i := range n {
		ctx := context.WithValue(t.Context(), http.ServerContextKey, server)
		tr := &transport{mode: delivery.Mode{Detached: true}, conn: newWire()}
		if i%2 == 0 {
			tr.begin = func(*delivery.Opening) error { return errors.New("no connection") }
		}
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx), tr)
		publish(t, hub, "a", "one")
		if tr.begin == nil {
			tr.stream.End(delivery.Restart)
			<-tr.stream.Done()
		}
	}
	require.Eventually(t, func() bool { runtime.GC(); return freed.Load() == n }, 5*time.Second, 10*time.Millisecond)
	runtime.KeepAlive(server)
	runtime.KeepAlive(e)
}
