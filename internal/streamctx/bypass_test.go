package streamctx_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// A request that does not become a stream passes as if Bypass were not there.
func TestRequestsThatAreNoStreams(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		check   func(t *testing.T, r *http.Response, body string)
	}{
		{"an empty answer", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-A", "1") }, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 200, r.StatusCode)
			require.Equal(t, "1", r.Header.Get("X-A"))
		}},
		{"status and body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-A", "1")
			w.WriteHeader(418)
			w.Header().Set("X-Late", "1")
			io.WriteString(w, "teapot")
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 418, r.StatusCode)
			require.Equal(t, "teapot", body)
			require.Equal(t, "1", r.Header.Get("X-A"))
			require.Empty(t, r.Header.Get("X-Late"))
		}},
		{"copying", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, strings.NewReader("copied"))
		}, func(t *testing.T, r *http.Response, body string) { require.Equal(t, "copied", body) }},
		{"flushing", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			io.WriteString(w, "b")
			assert.NoError(t, http.NewResponseController(w).Flush())
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, "ab", body)
			require.EqualValues(t, -1, r.ContentLength)
		}},
		{"trailers", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"X-More", "2")
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, "1", r.Trailer.Get("X-Sum"))
			require.Equal(t, "2", r.Trailer.Get("X-More"))
		}},
		{"deadlines", func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			assert.NoError(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, c.EnableFullDuplex())
			io.WriteString(w, "fine")
		}, func(t *testing.T, r *http.Response, body string) { require.Equal(t, "fine", body) }},
		{"hijacking", func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if assert.NoError(t, err) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				c.Close()
			}
		}, func(t *testing.T, r *http.Response, body string) { require.Equal(t, "ok", body) }},
		{"an early hint", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "then")
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 200, r.StatusCode)
			require.Equal(t, "then", body)
		}},
		{"a timeout", func(w http.ResponseWriter, r *http.Request) {
			late := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) })
			http.TimeoutHandler(late, 30*time.Second, "too late").ServeHTTP(w, r)
		}, func(t *testing.T, r *http.Response, body string) {
			require.Equal(t, 503, r.StatusCode)
			require.Equal(t, "too late", body)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := memnet.NewServer(streamctx.Bypass(test.handler), get(), pipes{})
				memnet.Serve(t, server)
				hints := 0
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					hints++
					assert.Equal(t, "</a>", h.Get("Link"))
					return nil
				}})
				response, err := server.Client().Do(memnet.ClientRequest(ctx, get()))
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				test.check(t, response, string(body))
				require.Equal(t, strings.Contains(test.name, "hint"), hints == 1)
				time.Sleep(time.Hour) // until the handler that was timed out has returned
			})
		})
	}
}

// Files, ranges of them and HEAD requests are answered as without a Bypass.
func TestFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.txt")
	require.NoError(t, os.WriteFile(name, make([]byte, 100_000), 0o600))
	server := httptest.NewServer(streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })))
	defer server.Close()
	response, err := http.Get(server.URL)
	require.NoError(t, err)
	b, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Len(t, b, 100_000)
	require.EqualValues(t, 100_000, response.ContentLength)
	r, _ := http.NewRequest("GET", server.URL, nil)
	r.Header.Set("Range", "bytes=10-19")
	response, err = http.DefaultClient.Do(r)
	require.NoError(t, err)
	b, _ = io.ReadAll(response.Body)
	require.Equal(t, 206, response.StatusCode)
	require.Len(t, b, 10)
	response, err = http.Head(server.URL)
	require.NoError(t, err)
	require.EqualValues(t, 100_000, response.ContentLength)
}
