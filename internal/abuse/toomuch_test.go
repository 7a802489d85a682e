package abuse_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// net/http accepts MaxHeaderBytes for the request line and the header, and 4 KiB more.
const (
	fits    = http.DefaultMaxHeaderBytes
	tooLong = fits + 8<<10
)

// A request with too many topics or an invalid one is refused, and so is one with a header
// that is too large. A position that is no ID gets a gap, however long it is.
func TestOversizedRequestsAreRefused(t *testing.T) {
	v := abused(t, ws.Options{})
	v.withBystanders(t)
	for _, test := range []struct {
		name, query, position string
		status                int // 0: a stream, which begins with a gap
	}{
		{"9,000 topics", "&topic=" + strings.Join(slices.Repeat([]string{"x"}, 9000), "&topic="), "", 500}, // the same one, even
		{"9,000 different topics", "&topic=" + strings.Join(different(9000), "&topic="), "", 500},          // of 10,000 net/url reads none
		{"a topic of a kilobyte", "&topic=" + strings.Repeat("x", 1024), "", 500},
		{"a topic with a line break", "&topic=a%0Ab", "", 500},
		{"a position of 64 KiB", "", strings.Repeat("9", 64<<10), 0}, // not an ID
		{"a position of a MiB", "", strings.Repeat("9", fits), 0},
		{"a position of more", "", strings.Repeat("9", tooLong), 431},
		{"a position of 2 MiB", "", strings.Repeat("9", 2<<20), 431},
		{"a position of a MiB in the query", "&lastEventId=" + strings.Repeat("9", fits), "", 0},
		{"a position of more in the query", "&lastEventId=" + strings.Repeat("9", tooLong), "", 431},
	} {
		for _, path := range allPaths {
			t.Run(test.name+path, func(t *testing.T) {
				p := v.dial(t)
				go io.WriteString(p, request(path+test.query, "Last-Event-ID: "+test.position)) // it may be cut
				var err error
				p.response, err = http.ReadResponse(p.r, nil)
				require.NoError(t, err)
				if test.status != 0 {
					require.Equal(t, test.status, p.response.StatusCode)
					return
				}
				require.Contains(t, p.opening(t), "gap")
			})
		}
	}
}

// different returns n different topics.
func different(n int) (topics []string) {
	for i := range n {
		topics = append(topics, fmt.Sprint(i))
	}
	return topics
}

// opening reads the first block of an event stream, or the first frame of a WebSocket.
func (p *peer) opening(t *testing.T) string {
	if p.response.StatusCode == http.StatusSwitchingProtocols {
		_, payload, err := readFrame(p.r)
		require.NoError(t, err)
		return payload
	}
	var block strings.Builder
	for lines := bufio.NewReader(p.response.Body); ; {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		if line == "\n" {
			return block.String()
		}
		block.WriteString(line)
	}
}

// An attached stream keeps its whole request in memory, a detached one nothing of it.
func TestADetachedStreamKeepsNothingOfItsRequest(t *testing.T) {
	v := abused(t, ws.Options{})
	position := strings.Repeat("9", fits)
	for _, test := range []struct {
		path, query, header string
		most                int64 // bytes of heap
	}{
		{eventPaths[0], "", position, fits + 60<<10},
		{eventPaths[0], position, "", fits + 60<<10},
		{eventPaths[1], "", position, 20 << 10},
		{eventPaths[1], position, "", 20 << 10},
		{socketPaths[0], "", position, fits + 60<<10},
		{socketPaths[0], position, "", fits + 60<<10},
		{socketPaths[1], "", position, 30 << 10},
		{socketPaths[1], position, "", 30 << 10},
	} {
		name := fmt.Sprintf("%s, %d KiB in the query, %d in the header", test.path, len(test.query)>>10, len(test.header)>>10)
		v.measure(t, name, test.most, func() *peer {
			return v.connect(t, test.path+"&lastEventId="+test.query, "Last-Event-ID: "+test.header)
		})
	}
}

// measure connects some clients for a while, each of which may cost at most so many bytes
// of heap.
func (v *victim) measure(t *testing.T, name string, most int64, connect func() *peer) {
	const clients = 5
	defer v.isDeserted(t)
	before := takeStock()
	for range clients {
		defer connect().Close()
	}
	costs(t, name, before, clients, most)
}

// A client that asks for too many topics on an open WebSocket is refused and keeps those it
// has. A message larger than MaxMessage closes the connection with 1009.
func TestTooManyTopicsOnAWebSocketAreRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		options ws.Options
		topics  []string
		status  int // in the answer; 0: the connection is closed with 1009
	}{
		{"1,000", ws.Options{}, different(1000), 200},
		{"1,001", ws.Options{}, different(1001), 400},
		{"10,000 in more than MaxMessage", ws.Options{}, different(10_000), 0},
		{"10,000", ws.Options{MaxMessage: 1 << 20}, different(10_000), 400},
		{"10,000 times one", ws.Options{MaxMessage: 1 << 20}, slices.Repeat([]string{"x"}, 10_000), 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := abused(t, test.options)
			v.withBystanders(t)
			for _, path := range socketPaths {
				p := v.connect(t, path)
				require.Contains(t, p.opening(t), "ready")
				asked, err := json.Marshal(map[string][]string{"topics": test.topics})
				require.NoError(t, err)
				_, err = io.WriteString(p, frame(textFrame, string(asked)))
				require.NoError(t, err)
				if test.status == 0 {
					code, err := p.closeCode()
					require.NoError(t, err)
					require.Equal(t, 1009, code)
					continue
				}
				var answer struct {
					Topics []string
					Status int
				}
				text := p.opening(t)
				require.NoError(t, json.Unmarshal([]byte(text), &answer))
				if test.status == 200 {
					assert.Equal(t, test.topics, answer.Topics)
					assert.Zero(t, answer.Status)
				} else {
					assert.Less(t, len(text), 100, "it does not repeat any topics")
					assert.Equal(t, test.status, answer.Status)
				}
				assert.Less(t, v.hub.Stats().Topics, 1010)
			}
			_, err := v.hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: []byte("x")})
			assert.NoError(t, err)
		})
	}
}
