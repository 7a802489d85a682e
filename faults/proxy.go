package faults

import (
	"compress/gzip"
	"io"
	"maps"
	"net/http"

	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Buffer stands before a handler as a proxy does that holds each response back
// until it is complete, whatever X-Accel-Buffering says. Like one, it takes no part
// in upgrades.
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

// Compress stands before a handler as a proxy does that compresses whatever passes,
// whatever Cache-Control says, and never flushes. Like one, it takes no part in
// upgrades.
func Compress(next http.Handler) http.Handler {
	return proxy{next, func(w http.ResponseWriter, r *http.Response) {
		var to io.Writer = w
		var z *gzip.Writer
		if w.Header().Get("Content-Encoding") == "" {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Del("Content-Length")
			z = gzip.NewWriter(w)
			to = z
		}
		w.WriteHeader(r.StatusCode)
		if _, err := io.Copy(to, r.Body); err != nil {
			panic(http.ErrAbortHandler) // a cut must not look like an end
		}
		if z != nil {
			_ = z.Close()
		}
	}}
}

// proxy passes a request on to a server of next, and has what comes back answered.
type proxy struct {
	next   http.Handler
	answer func(http.ResponseWriter, *http.Response)
}

func (p proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The client's Link ends here: the way on is another one.
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
	p.answer(w, response)
}
