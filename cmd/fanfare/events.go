package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/sse"
)

// received is what has come of a response's body.
type received struct {
	mu     sync.Mutex // guards what follows
	plain  bytes.Buffer
	events []sse.Event
	ended  error
	more   chan struct{} // closed when something comes, and then another one
	size   int           // bytes, as they were sent
}

func newReceived() *received { return &received{more: make(chan struct{})} }

func (r *received) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.more)
	r.more = make(chan struct{})
}

// until waits until f, called with r locked, returns true. It reports false if that has not
// happened in d.
func (r *received) until(ctx context.Context, d time.Duration, f func() bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		r.mu.Lock()
		done, more := f(), r.more
		r.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-more:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// read reads a body to its end.
func (r *received) read(response *http.Response) {
	var body io.Reader = readerFunc(func(p []byte) (int, error) {
		n, err := response.Body.Read(p)
		if n > 0 {
			r.change(func() { r.size += n })
		}
		return n, err
	})
	if strings.EqualFold(response.Header.Get("Content-Encoding"), "gzip") {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			r.change(func() { r.ended = err })
			return
		}
		body = unpacked
	}
	plain := readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		if n > 0 {
			r.change(func() { r.plain.Write(p[:min(n, max(0, maxPlain-r.plain.Len()))]) })
		}
		return n, err
	})
	events := sse.NewReader(plain)
	for {
		e, err := events.Read()
		if err != nil {
			r.change(func() { r.ended = err })
			return
		}
		e.ID = events.LastEventID()
		r.change(func() { r.events = append(r.events, e) })
	}
}

// maxPlain is how much of a stream is kept.
const maxPlain = 1 << 20

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// request sends a request as a page does.
func (c *checker) request(ctx context.Context, lastEventID, origin string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header = c.header.Clone()
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Accept-Encoding", "gzip") // else net/http unpacks without a word
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	return http.DefaultClient.Do(r)
}

// checkEvents checks an event stream.
func (c *checker) checkEvents(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		response *http.Response
		err      error
	}
	began, answered := time.Now(), make(chan answer, 1)
	go func() {
		response, err := c.request(ctx, "", "")
		answered <- answer{response, err}
	}()
	timer := time.NewTimer(c.wait)
	defer timer.Stop()
	var response *http.Response
	select {
	case a := <-answered:
		if a.err != nil {
			c.fault("connection", "%v", a.err)
			return
		}
		response = a.response
	case <-timer.C:
		c.fault("buffering", "not even the header has come in %v: a proxy or a middleware holds the response back until it has ended", c.wait)
		return
	}
	defer response.Body.Close()
	if !c.checkHeader(response, time.Since(began)) {
		return
	}
	got, read := newReceived(), make(chan struct{})
	go func() { defer close(read); got.read(response) }()
	defer func() { cancel(); <-read }()
	if !c.checkArrival(ctx, got, began) {
		c.checkPages(ctx)
		return
	}
	quiet := got.now()
	known := got.lastID() != ""
	if known { // else an ID may come with what counts as a heartbeat
		c.checkResume(ctx, got)
	}
	c.checkPages(ctx)
	c.checkHeartbeat(ctx, got, quiet)
	if !known {
		c.checkResume(ctx, got)
	}
}

// checkHeader checks the header of the response. It reports false if there is no stream.
func (c *checker) checkHeader(response *http.Response, took time.Duration) bool {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		c.fault("status", "%s, not 200: an EventSource gives up%s", response.Status, c.hint())
		return false
	case response.StatusCode != http.StatusOK:
		c.fault("status", "%s, not 200: an EventSource gives up", response.Status)
		return false
	case media != "text/event-stream":
		c.fault("type", "Content-Type is %q, not text/event-stream: an EventSource gives up", response.Header.Get("Content-Type"))
		return false
	}
	c.ok("status", "%s, %s, after %v", response.Status, media, took.Round(time.Millisecond))
	if caching := strings.ToLower(strings.Join(response.Header.Values("Cache-Control"), ", ")); !strings.Contains(caching, "no-store") && !strings.Contains(caching, "no-cache") {
		c.fault("caching", "Cache-Control is %q: a proxy may cache the stream; keep the no-store that the kit sets", caching)
	} else {
		c.ok("caching", "Cache-Control: %s", caching)
	}
	if response.ContentLength >= 0 {
		c.fault("length", "Content-Length is %d: the stream is cut there", response.ContentLength)
	}
	if coding := response.Header.Get("Content-Encoding"); coding != "" {
		c.note("compression", "the stream is compressed (%s): that works if each message is flushed, which the next line shows", coding)
	} else {
		c.ok("compression", "none")
	}
	return true
}

// checkArrival checks that the stream begins at once. It reports false if nothing has come, with
// which no more can be checked.
func (c *checker) checkArrival(ctx context.Context, got *received, began time.Time) bool {
	arrived := got.until(ctx, c.wait, func() bool { return got.plain.Len() > 0 || got.ended != nil })
	took := time.Since(began)
	got.mu.Lock()
	size, plain := got.size, got.plain.Len()
	got.mu.Unlock()
	switch {
	case !arrived && size > 0:
		c.fault("buffering", "%d bytes came and no text in them: the compression on the way does not flush; let it leave text/event-stream alone", size)
	case !arrived:
		c.fault("buffering", "nothing came in %v: a proxy or a middleware holds the response back (nginx: proxy_buffering off, or let X-Accel-Buffering: no through), or the server sends nothing at first", c.wait)
	case plain == 0:
		c.fault("buffering", "the response ended with nothing in it")
	case took > prompt:
		c.fault("buffering", "the first bytes came after %v: something on the way collects them", took.Round(time.Millisecond))
	default:
		c.ok("buffering", "the first bytes came after %v", took.Round(time.Millisecond))
	}
	return arrived
}

// moment is how much had come of a stream, and when.
type moment struct {
	size int
	at   time.Time
}

func (r *received) now() moment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return moment{size: r.size, at: time.Now()}
}

// checkHeartbeat checks that something more comes while the stream is quiet, since when it has
// been checked for other things.
func (c *checker) checkHeartbeat(ctx context.Context, got *received, quiet moment) {
	more := func() bool { return got.size > quiet.size || got.ended != nil }
	rest := func() time.Duration { return c.wait - time.Since(quiet.at) }
	came := got.until(ctx, min(prompt, rest()), more)
	if !came && rest() > 0 {
		fmt.Fprintf(c.progress, "fanfare: waiting for a heartbeat, up to %v\n", c.wait)
		came = got.until(ctx, rest(), more)
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	switch took := time.Since(quiet.at).Round(10 * time.Millisecond); {
	case got.ended != nil:
		c.fault("heartbeat", "the stream was ended after %v (%v): a timeout on the way, or of the server", took, got.ended)
	case !came:
		c.fault("heartbeat", "nothing came in %v: no heartbeat keeps the stream open, and no client finds out that it is dead; set Options.Heartbeat, or raise -wait", c.wait)
	default:
		c.ok("heartbeat", "more came within %v", took)
	}
}

// checkResume comes back with the last ID of the stream.
func (c *checker) checkResume(ctx context.Context, got *received) {
	id := got.lastID()
	if id == "" {
		c.fault("resume", "no id came: a client that is cut loses what is published until it is back")
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	response, err := c.request(ctx, id, "")
	if err != nil {
		c.fault("resume", "coming back with Last-Event-ID: %s: %v", id, err)
		return
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusUnauthorized && c.hasTicket() {
		c.note("resume", notChecked)
		return
	}
	if response.StatusCode != http.StatusOK {
		c.fault("resume", "coming back with Last-Event-ID: %s is answered with %s", id, response.Status)
		return
	}
	again, read := newReceived(), make(chan struct{})
	go func() { defer close(read); again.read(response) }()
	again.until(ctx, prompt, func() bool { return again.plain.Len() > 0 || again.ended != nil })
	cancel()
	<-read
	if len(again.events) > 0 && again.events[0].Type == "gap" {
		c.fault("resume", "coming back with Last-Event-ID: %s at once is a gap: the request reaches another log, such as that of a server with a Hub of its own", id)
		return
	}
	if again.plain.Len() == 0 {
		c.fault("resume", "coming back with Last-Event-ID: %s yields nothing in %v", id, prompt)
		return
	}
	c.ok("resume", "goes on after %s", id)
}

// lastID returns the last ID that has come, also in a block without data, which is no event.
func (r *received) lastID() (id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := r.plain.String()
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	for block := range strings.SplitSeq(text[:max(0, strings.LastIndex(text, "\n\n"))], "\n") {
		if value, ok := strings.CutPrefix(block, "id:"); ok {
			id = strings.TrimPrefix(value, " ")
		}
	}
	return id
}

// checkPages checks whether pages of any site may read the stream.
func (c *checker) checkPages(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	response, err := c.request(ctx, "", foreignOrigin)
	if err != nil {
		c.note("origin", "as a page of another site: %v", err)
		return
	}
	defer response.Body.Close()
	allowed := response.Header.Get("Access-Control-Allow-Origin")
	switch {
	case allowed == foreignOrigin && response.Header.Get("Access-Control-Allow-Credentials") == "true":
		c.fault("origin", "pages of any site may read the stream with the cookies of their visitors: name the sites, with middleware.Origins")
	case allowed == foreignOrigin || allowed == "*":
		c.note("origin", "pages of any site may read the stream, without cookies")
	case response.StatusCode == http.StatusUnauthorized && c.hasTicket():
		c.note("origin", notChecked)
	default:
		c.ok("origin", "a page of another site may not read it")
	}
}
