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

// subscriber is one client with all its connections. It can connect over either transport,
// and resumes with the last ID it saw.
type subscriber struct {
	record
	history *history // of the Hub that it follows
	http    *http.Client
	url     string
	rng     *rand.Rand
	silence time.Duration // after which it gives up a connection; 0 means never
}

// stream is one connection of a subscriber. It carries envelopes on both transports.
type stream struct {
	next  func() ([]byte, error)
	close func()
}

// attempt draws the details of a connection over a transport. It returns a function that
// connects, which may be called from any goroutine.
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

// path returns the attached or the detached path of a handler, at random, with the
// subscriber's query.
func (c *subscriber) path(query url.Values) string {
	query["client"], query["topic"] = []string{c.name}, c.topics
	return []string{"", "/detached"}[c.rng.IntN(2)] + "?" + query.Encode()
}

// read reads up to n envelopes from a stream. It returns the error that ended the stream
// before that, and an error that should never happen.
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
	ctx, active, cancel := c.watch(ctx)
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
		return nil, fmt.Errorf("the response is %s", response.Status)
	}
	events := sse.NewReader(response.Body)
	return &stream{
		next: func() ([]byte, error) {
			active()
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
	ctx, active, cancel := c.watch(ctx)
	conn, err := ws.Dial(ctx, target, &ws.DialOptions{HTTPClient: c.http, Options: options})
	if err != nil {
		cancel()
		return nil, err
	}
	if c.silence == 0 {
		ctx = context.Background() // a Read without a context to watch costs much less
	}
	return &stream{
		next: func() ([]byte, error) {
			active()
			_, data, err := conn.Read(ctx)
			return data, err
		},
		close: func() {
			cancel()
			_ = conn.CloseNow()
		},
	}, nil
}

// watch returns a context that ends once active has not been called for the subscriber's
// silence.
func (c *subscriber) watch(ctx context.Context) (_ context.Context, active, cancel func()) {
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
