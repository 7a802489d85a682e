package faults_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// example takes the place of a test's *testing.T, which an example does not have.
type example struct {
	testing.TB
	cleanups []func()
}

func (e *example) Helper()          {}
func (e *example) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }
func (e *example) end() {
	for i := range e.cleanups {
		e.cleanups[len(e.cleanups)-1-i]()
	}
}

// The connection is cut after 5 bytes.
func ExampleLink() {
	var link faults.Link
	client, server := link.Pipe()
	link.CutAfter(5)
	server.Write([]byte("hello, client"))
	got, err := io.ReadAll(client)
	fmt.Printf("%s, and then: %v\n", got, err)
	// Output: hello, and then: read memory 192.0.2.1:1234->192.0.2.2:80: connection reset by peer
}

// Give what Via returns to ssetest.Connect or wstest.Dial.
func ExampleVia() {
	t := new(example) // in a test: its *testing.T
	defer t.end()

	news := &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}}
	var link faults.Link
	stream := ssetest.Connect(t, news, faults.Via(httptest.NewRequest("GET", "/news", nil), &link))
	link.Cut()
	fmt.Println(stream.End() != nil)
	// Output: true
}

// Diagnose finds that neither proxy lets a stream through.
func ExampleBuffer() {
	news := &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}}
	for _, proxy := range []func(http.Handler) http.Handler{faults.Buffer, faults.Compress} {
		fmt.Println(ssetest.Diagnose(proxy(news), httptest.NewRequest("GET", "/news", nil)) != nil)
	}
	// Output:
	// true
	// true
}

func ExampleCompress() {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	w := httptest.NewRecorder()
	faults.Compress(answer).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Encoding"))
	// Output: 200 gzip
}
