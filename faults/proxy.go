package faults

import (
	"compress/gzip"
	"io"
	"maps"
	"net/http"

	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Buffer puts a proxy in front of next that holds each response back until it is
// complete, whatever X-Accel-Buffering says. The proxy does not pass on upgrades.
func Buffer(next http.Handler) http.Handler {
	return proxy{next, func(w http.ResponseWriter, r *http.Response) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, http.StatusText(http.StatusBadGateway), http.StatusBadGateway)
			return
		}
		w.WriteHeader(r.StatusCode)
		_, _ = w.Write(body)
	}}
}

// Compress puts a proxy in front of next that compresses every response, whatever
// Cache-Control says, and never flushes. A response that is compressed already passes
// as it is. The proxy does not pass on upgrades.
func Compress(next http.Handler) http.Handler {
	return proxy{next, func(w http.ResponseWriter, r *http.Response) {
		var body io.Writer = w
		var z *gzip.Writer
		if w.Header().Get("Content-Encoding") == "" {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Del("Content-Length")
			z = gzip.NewWriter(w)
			body = z
		}
		w.WriteHeader(r.StatusCode)
		if _, err := io.Copy(body, r.Body); err != nil {
			panic(http.ErrAbortHandler) // a response that was cut must not look complete
		}
		if z != nil {
			_ = z.Close()
		}
	}}
}

// proxy sends each request to a server of next, and answers with what respond makes of
// the response.
type proxy struct {
	next    http.Handler
	respond func(http.ResponseWriter, *http.Response)
}

func (p proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The client's Link ends at the proxy. Between proxy and server there is another.
	server := memnet.NewServer(p.next, r.WithContext(memnet.WithNetwork(streamctx.Apart(r.Context()), new(Link))), nil)
	server.Start()
	defer server.Close()
	request := memnet.ClientRequest(r.Context(), r)
	for _, hop := range []string{"Connection", "Upgrade", "Keep-Alive", "Te"} {
		request.Header.Del(hop) // RFC 9110 section 7.6.1
	}
	response, err := server.Client().Do(request)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusBadGateway), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	maps.Copy(w.Header(), response.Header)
	p.respond(w, response)
}
