package endtoend_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// subscriber is a client through all its connections. By hand it connects over either
// transport, and resumes with the last ID it saw.
type subscriber struct {
	record
	history *history // of the Hub that it follows
	http    *http.Client
	url     string
	rng     *rand.Rand
	silence time.Duration // after which it gives a connection up; 0: never
}

// stream is one connection of a subscriber. It carries envelopes on both transports.
type stream struct {
	next  func() ([]byte, error)
	close func()
}

// attempt draws how to connect over a transport. What it returns connects, and may be
// called from any goroutine.
func (c *subscriber) attempt(socket bool) func(context.Context) (*stream, error) {
	query := url.Values{"lastEventId": {c.position}, "envelope": {"1"}}
	if c.silence > 0 {
		query.Set("heartbeat", "1")
	}
	path := c.path(query)
	if socket {
		options := ws.Options{Compression: c.rng.IntN(2) == 0, MaxMessage: 1 << 20}
		return func(ctx context.Context) (*stream, error) { return c.overWebSocket(ctx, c.url+"/ws"+path, options) }
	}
	return func(ctx context.Context) (*stream, error) { return c.overSSE(ctx, c.url+"/sse"+path) }
}

// path draws one of a handler's two, with what the subscriber asks for.
func (c *subscriber) path(query url.Values) string {
	query["client"], query["topic"] = []string{c.name}, c.topics
	return []string{"", "/detached"}[c.rng.IntN(2)] + "?" + query.Encode()
}

// read takes up to n envelopes from a stream. It returns what has ended the stream before
// that, and what should never come.
func (c *subscriber) read(s *stream, n int) (ended, wrong error) {
	for ; n > 0 && !c.done(); n-- {
		data, err := s.next()
		if err != nil {
			return err, nil
		}
		if err := c.envelope(data); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (c *subscriber) overSSE(ctx context.Context, target string) (*stream, error) {
	ctx, heard, cancel := c.watch(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		cancel()
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		cancel()
		response.Body.Close()
		return nil, fmt.Errorf("the answer is %s", response.Status)
	}
	events := sse.NewReader(response.Body)
	return &stream{
		next: func() ([]byte, error) {
			heard()
			e, err := events.Read()
			return e.Data, err
		},
		close: func() {
			cancel()
			response.Body.Close()
		},
	}, nil
}

func (c *subscriber) overWebSocket(ctx context.Context, target string, options ws.Options) (*stream, error) {
	ctx, heard, cancel := c.watch(ctx)
	conn, err := ws.Dial(ctx, target, &ws.DialOptions{HTTPClient: c.http, Options: options})
	if err != nil {
		cancel()
		return nil, err
	}
	if c.silence == 0 {
		ctx = context.Background() // a Read that nothing ends costs much less
	}
	return &stream{
		next: func() ([]byte, error) {
			heard()
			_, data, err := conn.Read(ctx)
			return data, err
		},
		close: func() {
			cancel()
			_ = conn.CloseNow()
		},
	}, nil
}

// watch ends ctx once nothing has been heard for too long.
func (c *subscriber) watch(ctx context.Context) (_ context.Context, heard, cancel func()) {
	ctx, end := context.WithCancel(ctx)
	if c.silence == 0 {
		return ctx, func() {}, end
	}
	timer := time.AfterFunc(c.silence, end)
	return ctx, func() { timer.Reset(c.silence) }, func() {
		timer.Stop()
		end()
	}
}
