package abuse_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// injections are texts that try to end a line, a block, a chunk or a header, and to begin
// another one, marked by the word evil.
var injections = []string{
	"x\nevil", "x\revil", "x\r\nevil", "\nevil", "x\x00evil", "x\n\nevil: 1", "x\r\n\r\nid: evil", "x\n\nevent: evil\ndata: x\n",
	"x\r\n5\r\nevil", "x\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nevil: 1", "x\n:\x00evil", "x\",\"gap\":\"\nevil",
}

// isHarmless fails the test if a line contains evil and does not begin with one of the
// prefixes.
func isHarmless(t *testing.T, wire string, prefixes ...string) {
	t.Helper()
	for line := range strings.FieldsFuncSeq(wire, func(r rune) bool { return r == '\r' || r == '\n' }) {
		harmless := !strings.Contains(line, "evil")
		for _, prefix := range prefixes {
			harmless = harmless || strings.HasPrefix(line, prefix)
		}
		assert.True(t, harmless, "the line %q", line)
	}
}

// ask sends a request, and reads nothing yet.
func (v *victim) ask(t *testing.T, path string, header ...string) *peer {
	p := v.dial(t)
	_, err := io.WriteString(p, request(path, header...))
	require.NoError(t, err)
	return p
}

// wire reads bytes up to a text, and returns them.
func (p *peer) wire(t *testing.T, to string) string {
	t.Helper()
	var all []byte
	for !strings.HasSuffix(string(all[max(0, len(all)-len(to)):]), to) {
		b, err := p.r.ReadByte()
		require.NoError(t, err, "%q", all)
		all = append(all, b)
	}
	return string(all)
}

// publish publishes to the topic "a" once so many clients are subscribed.
func (v *victim) publish(t *testing.T, clients int, ms ...broadcast.Message) {
	require.Eventually(t, func() bool { return v.hub.Stats().Subscriptions == clients }, 10*time.Second, time.Millisecond)
	for _, m := range ms {
		m.Topic = "a"
		_, err := v.hub.Publish(t.Context(), m)
		require.NoError(t, err)
	}
}

// Publish refuses a topic or a type with a line break, and data stays within its message.
func TestPublishCannotInject(t *testing.T) {
	v := abused(t, ws.Options{})
	var data []broadcast.Message
	for _, text := range injections {
		_, err := v.hub.Publish(t.Context(), broadcast.Message{Topic: text, Data: []byte("x")})
		require.ErrorIs(t, err, broadcast.ErrNotPublished, "a Topic: %q", text)
		_, err = v.hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: text, Data: []byte("x")})
		require.ErrorIs(t, err, broadcast.ErrNotPublished, "a Type: %q", text)
		data = append(data, broadcast.Message{Data: []byte(text)})
	}
	var events, sockets []*peer
	for i := range eventPaths {
		events = append(events, v.ask(t, eventPaths[i]), v.ask(t, eventPaths[i]+"&envelope=1"))
		sockets = append(sockets, v.connect(t, socketPaths[i]))
	}
	v.publish(t, len(events)+len(sockets), append(data, broadcast.Message{Data: []byte("over")})...)
	for _, p := range events {
		isHarmless(t, p.wire(t, "over"), "data: ")
	}
	for _, p := range sockets {
		require.Contains(t, p.opening(t), `{"ready":`)
		for _, text := range injections {
			require.Equal(t, map[string]string{"id": "", "topic": "a", "data": text}, p.message(t))
		}
	}
}

// message reads an envelope, and clears its ID.
func (p *peer) message(t *testing.T) (m map[string]string) {
	first, payload, err := readFrame(p.r)
	require.NoError(t, err)
	require.EqualValues(t, textFrame, first)
	require.NoError(t, json.Unmarshal([]byte(payload), &m))
	if m["id"] != "" {
		m["id"] = ""
	}
	return m
}

// A response never repeats the topics and the position that a client asks for in the URL.
func TestURLsCannotInject(t *testing.T) {
	v := abused(t, ws.Options{})
	for _, text := range injections {
		for _, path := range allPaths {
			p := v.ask(t, path+"&topic="+url.QueryEscape(text), "Connection: close")
			response, err := io.ReadAll(p.r)
			require.NoError(t, err)
			require.Contains(t, string(response), "500 Internal Server Error\r\n")
			require.NotContains(t, string(response), "evil")

			p = v.ask(t, path+"&lastEventId="+url.QueryEscape(text))
			require.NotContains(t, p.wire(t, "gap")+p.wire(t, "}"), "evil")
			p.Close()
		}
	}
}

// A middleware that echoes what a client has sent, as the value or as the name of a header,
// cannot inject into the response's header.
func TestHeadersCannotInject(t *testing.T) {
	v := abused(t, ws.Options{})
	v.mux.HandleFunc("/echo/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.URL.Query().Get("echo"))
		w.Header()[r.URL.Query().Get("echo")] = []string{"x"}
		http.StripPrefix("/echo", v.mux).ServeHTTP(w, r)
	})
	for _, text := range injections {
		for _, path := range allPaths {
			p := v.ask(t, "/echo"+path+"&echo="+url.QueryEscape(text))
			head := p.wire(t, "\r\n\r\n")
			require.Contains(t, head, "X-Echo: ")
			isHarmless(t, head, "X-Echo: ")
			require.NotContains(t, head, "\nHTTP/")
			p.Close()
		}
	}
}
