package ws_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/ws"
)

// Whatever bytes a client sends, a server upgrades only what a second implementation finds
// to be a handshake, with the right answer, and never panics.
func FuzzUpgrade(f *testing.F) {
	seeds := []string{
		goodUpgrade,
		strings.ReplaceAll(goodUpgrade, "\r\n", "\n"),
		strings.Replace(goodUpgrade, "Connection: Upgrade", "Connection: keep-alive ,\tuPGRADE,", 1),
		strings.Replace(goodUpgrade, "Connection: Upgrade", "connection: close\r\nCONNECTION: upgrade", 1),
		strings.Replace(goodUpgrade, "Connection: Upgrade", "Connection: x\r\n\tupgrade", 1),
		strings.Replace(goodUpgrade, "Connection: Upgrade", "Connection: upgrades", 1),
		strings.Replace(goodUpgrade, "Upgrade: websocket", "Upgrade: h2c, WebSocket", 1),
		strings.Replace(goodUpgrade, "Upgrade: websocket", "Upgrade: websocket/13", 1),
		strings.Replace(goodUpgrade, "Version: 13", "Version: 8, 13", 1),
		strings.Replace(goodUpgrade, "Version: 13", "Version: 013", 1),
		strings.Replace(goodUpgrade, "Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub25jZQ", 1),
		strings.Replace(goodUpgrade, "Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhl IHNhbXBsZSBub25jZQ==", 1),
		strings.Replace(goodUpgrade, "GET / HTTP/1.1", "GET / HTTP/1.0", 1),
		strings.Replace(goodUpgrade, "GET / HTTP/1.1", "get / HTTP/1.1", 1),
		strings.Replace(goodUpgrade, "GET /", "GET http://example.com/?topic=%0d%0a", 1),
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"CONNECT / HTTP/1.1\r\n:protocol: websocket\r\n\r\n",
	}
	for _, more := range []string{
		"Origin: http://memory", "Origin: https://MEMORY", "Origin: null", "Origin: http://memory.example.com", "Origin: http://memory@example.com",
		"Origin: http://memory:80", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin", "Content-Length: 5", "Transfer-Encoding: chunked",
		"Expect: 100-continue", "Sec-WebSocket-Protocol: x, chat", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Last-Event-ID: 1-1", "X: " + strings.Repeat("x", 5000),
	} {
		seeds = append(seeds, strings.TrimSuffix(goodUpgrade, "\r\n")+more+"\r\n\r\n")
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	s := newUpgrader(f, &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Options: upgraderOptions, Logger: silent})
	f.Fuzz(func(t *testing.T, sent []byte) {
		if _, problem := s.try(t, sent); problem != "" {
			t.Fatalf("after %q %s", sent, problem)
		}
	})
}

const goodUpgrade = "GET / HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// upgrader is a server in memory that upgrades requests.
type upgrader struct {
	listener *memnet.Listener
	panicked atomic.Bool
}

var upgraderOptions = ws.Options{Compression: true, Subprotocols: []string{"chat", "superchat"}}

func newUpgrader(t testing.TB, h http.Handler) *upgrader {
	s := &upgrader{listener: memnet.Listen()}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = s.listener
	server.Config.ErrorLog = log.New(s, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// Write stores a line of the server's log.
func (s *upgrader) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic")) {
		s.panicked.Store(true)
	}
	return len(line), nil
}

// rest follows each request, so that the server always answers: it ends a header that had
// no end, and is more than the server reads of a body.
var rest = []byte("\r\n\r\n" + strings.Repeat("\x00", 300<<10))

// try sends a request, and returns the status of the answer (0: none), and what is wrong
// with it.
func (s *upgrader) try(t testing.TB, sent []byte) (status int, problem string) {
	conn, err := s.listener.DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		if _, err := conn.Write(sent); err == nil {
			_, _ = conn.Write(rest)
		}
	}()
	answer, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err == nil {
		status = answer.StatusCode
	}
	switch {
	case s.panicked.Load():
		problem = "the server has panicked"
	case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
		problem = "no answer came: " + err.Error()
	case status == http.StatusSwitchingProtocols:
		problem = wrongUpgrade(string(sent)+"\r\n\r\n", answer.Header)
	}
	return status, problem
}

// wrongUpgrade returns why a request should not have been answered with 101, or not with
// this answer (RFC 6455 section 4.2). The lines of the request are parsed by net/http.
func wrongUpgrade(sent string, answer http.Header) string {
	r, err := http.ReadRequest(bufio.NewReaderSize(strings.NewReader(sent), 512))
	if err != nil {
		return "101 to what is no request: " + err.Error()
	}
	key := r.Header.Get("Sec-WebSocket-Key")
	switch {
	case r.Method != "GET":
		return "101 to the method " + r.Method
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return "101 over " + r.Proto
	case !lists(r.Header["Connection"], "upgrade"):
		return "101 without Connection: upgrade"
	case !lists(r.Header["Upgrade"], "websocket"):
		return "101 without Upgrade: websocket"
	case !slices.Equal(r.Header["Sec-Websocket-Version"], []string{"13"}):
		return "101 for another version"
	case len(r.Header["Sec-Websocket-Key"]) != 1 || !sixteenBytes.MatchString(key):
		return "101 for a bad key"
	case isForeign(r):
		return "101 to a foreign page"
	}
	hash := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	protocol := answer.Get("Sec-WebSocket-Protocol")
	switch {
	case answer.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(hash[:]):
		return "the wrong Sec-WebSocket-Accept"
	case !lists(answer["Connection"], "upgrade") || !lists(answer["Upgrade"], "websocket"):
		return "a 101 without Connection and Upgrade"
	case protocol != "" && !lists(r.Header["Sec-Websocket-Protocol"], protocol):
		return "a subprotocol that was not offered"
	case answer.Get("Sec-WebSocket-Extensions") != "" && !strings.Contains(strings.Join(r.Header["Sec-Websocket-Extensions"], ","), "permessage-deflate"):
		return "an extension that was not offered"
	}
	return ""
}

// sixteenBytes matches sixteen bytes in base64, with any spare bits in the last digit.
var sixteenBytes = regexp.MustCompile(`^[A-Za-z0-9+/]{22}==$`)

// lists reports whether one of several headers lists a token, in any case.
func lists(values []string, token string) bool {
	for _, value := range values {
		for _, listed := range strings.Split(value, ",") {
			if asciiLower(strings.Trim(listed, " \t")) == token {
				return true
			}
		}
	}
	return false
}

// asciiLower lowers ASCII letters alone: strings.ToLower turns U+212A (KELVIN SIGN) into
// k as well.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// authority is the scheme and the host of a URL.
var authority = regexp.MustCompile(`^([^/?#]*)//(?:[^/?#]*@)?([^/?#]*)`)

// defaultPorts are those that an origin and a Host may leave out.
var defaultPorts = map[string]string{"http:": ":80", "https:": ":443"}

// isForeign reports whether a request comes from a page of another host.
func isForeign(r *http.Request) bool {
	if strings.Join(r.Header["Origin"], "") == "" {
		sites := r.Header["Sec-Fetch-Site"]
		return slices.Contains(sites, "cross-site") || slices.Contains(sites, "same-site")
	}
	for _, origin := range r.Header["Origin"] {
		page := authority.FindStringSubmatch(origin)
		if page == nil {
			return true
		}
		port := defaultPorts[asciiLower(page[1])]
		if strings.TrimSuffix(asciiLower(page[2]), port) != strings.TrimSuffix(asciiLower(r.Host), port) {
			return true
		}
	}
	return false
}
