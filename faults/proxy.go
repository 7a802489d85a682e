package faults

import (
	"compress/gzip"
	"io"
	"maps"
	"net/http"

	"github.com/fanfare-go/fanfare/internal/memnet"
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
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Del("Content-Length")
		w.WriteHeader(r.StatusCode)
		z := gzip.NewWriter(w)
		defer z.Close()
		_, _ = io.Copy(z, r.Body)
	}}
}

// proxy passes a request on to a server of next, and has what comes back answered.
type proxy struct {
	next   http.Handler
	answer func(http.ResponseWriter, *http.Response)
}

func (p proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	server := memnet.NewServer(p.next, r, new(Link))
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
