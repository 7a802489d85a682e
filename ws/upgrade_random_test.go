package ws_test

import (
	"encoding/base64"
	"flag"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/ws"
)

// upgradeSeed repeats a run, which prints its seed.
var upgradeSeed = flag.Uint64("upgrade.seed", 0, "seed of the random upgrade requests; 0: another one each time")

// TestRandomUpgrades is FuzzUpgrade with requests that look more like requests: 20,000 of
// them, 100,000 in the long form, each a good one with up to four changes. Those whose changes
// are all harmless are upgraded.
func TestRandomUpgrades(t *testing.T) {
	requests := 20_000
	switch {
	case longtest.Enabled():
		requests = 100_000
	case testing.Short():
		requests = 5000
	}
	seed := *upgradeSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	s := newUpgrader(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := ws.Upgrade(w, r, &upgraderOptions); err == nil {
			c.CloseNow()
		}
	}))
	var mu sync.Mutex
	statuses := map[int]int{}
	harmless := 0
	var all sync.WaitGroup
	senders := 2 * runtime.GOMAXPROCS(0)
	for sender := range senders {
		all.Go(func() {
			for i := sender; i < requests && !t.Failed(); i += senders {
				d := draw(seed + uint64(i))
				status, problem := s.try(t, []byte(d.String()))
				assert.Empty(t, problem, "-upgrade.seed=%d: the first of them is %.5000q", seed+uint64(i), d)
				assert.True(t, !d.harmless || status == 101, "-upgrade.seed=%d: %d to %.5000q", seed+uint64(i), status, d)
				mu.Lock()
				statuses[status]++
				if d.harmless {
					harmless++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for _, status := range slices.Sorted(maps.Keys(statuses)) {
		t.Logf("%6d answered with %d", statuses[status], status)
	}
	t.Logf("-upgrade.seed=%d: %d requests, %d with harmless changes alone", seed, requests, harmless)
	require.Greater(t, statuses[101], requests/10)
	require.Greater(t, requests-statuses[101], requests/10)
}

// drawn is the lines of a random request.
type drawn struct {
	*rand.Rand
	line     string
	header   [][2]string
	end      string // of each line
	harmless bool   // it is still a good one
}

func draw(seed uint64) *drawn {
	d := &drawn{Rand: rand.New(rand.NewPCG(seed, 0)), end: "\r\n", harmless: true}
	lines := strings.Split(strings.TrimSpace(goodUpgrade), "\r\n")
	d.line = lines[0]
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		d.header = append(d.header, [2]string{name, value})
	}
	for range 1 + d.IntN(4) {
		if d.IntN(5) < 2 {
			pick(d, harmlessChanges)(d)
		} else {
			d.harmless = false
			pick(d, changes)(d)
		}
	}
	return d
}

func pick[T any](d *drawn, of []T) T { return of[d.IntN(len(of))] }

// String returns the request.
func (d *drawn) String() string {
	var b strings.Builder
	b.WriteString(d.line + d.end)
	for _, h := range d.header {
		b.WriteString(h[0] + ":" + h[1] + d.end)
	}
	return b.String() + d.end
}

// any returns one of the lines of the header, at random.
func (d *drawn) any() *[2]string { return &d.header[d.IntN(len(d.header))] }

// named returns the first header of that name, or any if there is none.
func (d *drawn) named(name string) *[2]string {
	for i := range d.header {
		if strings.EqualFold(d.header[i][0], name) {
			return &d.header[i]
		}
	}
	return d.any()
}

// add adds a header somewhere.
func (d *drawn) add(name, value string) {
	d.header = slices.Insert(d.header, d.IntN(len(d.header)+1), [2]string{name, value})
}

// otherCase changes the case of letters.
func (d *drawn) otherCase(s string) string {
	return strings.Map(func(r rune) rune {
		if d.IntN(2) == 0 {
			return []rune(strings.ToUpper(string(r)))[0]
		}
		return []rune(strings.ToLower(string(r)))[0]
	}, s)
}

// space returns some of the whitespace that may surround a value.
func (d *drawn) space() string { return pick(d, []string{"", " ", "\t", "   ", " \t "}) }

// harmlessChanges leave a good request a good one.
var harmlessChanges = []func(*drawn){
	func(d *drawn) { h := d.any(); h[0] = d.otherCase(h[0]) },
	func(d *drawn) { h := d.any(); h[1] = d.space() + h[1] + d.space() },
	func(d *drawn) { h := d.list(); h[1] = d.otherCase(h[1]) },
	func(d *drawn) { h := d.list(); h[1] = pick(d, tokens) + d.space() + "," + d.space() + h[1] },
	func(d *drawn) { h := d.list(); h[1] += d.space() + "," + pick(d, tokens) },
	func(d *drawn) { d.add(d.list()[0], pick(d, tokens)) },
	func(d *drawn) {
		d.Shuffle(len(d.header), func(i, j int) { d.header[i], d.header[j] = d.header[j], d.header[i] })
	},
	func(d *drawn) {
		d.line = "GET " + pick(d, []string{"/a/b", "/?topic=x&lastEventId=1-1", "/%0d%0a", "http://memory/"}) + " HTTP/1.1"
	},
	func(d *drawn) { d.named("Sec-WebSocket-Key")[1] = base64.StdEncoding.EncodeToString(d.bytes(16)) },
	func(d *drawn) { d.add("Cookie", "x="+strings.Repeat("x", d.IntN(1000))) },
	func(d *drawn) { d.add("Sec-Fetch-Site", pick(d, []string{"none", "same-origin"})) },
	func(d *drawn) {
		d.add("Sec-WebSocket-Protocol", pick(d, tokens)+", "+pick(d, []string{"chat", "superchat", "x"}))
	},
	func(d *drawn) { d.add("Sec-WebSocket-Extensions", pick(d, extensions)) },
	func(d *drawn) {
		d.add(pick(d, []string{"Last-Event-ID", "Accept", "User-Agent", "X-Forwarded-Host"}), pick(d, odd))
	},
}

// changes may make a request invalid.
var changes = []func(*drawn){
	func(d *drawn) { d.line = pick(d, methods) + " " + pick(d, targets) + " " + pick(d, versions) },
	func(d *drawn) { _, rest, _ := strings.Cut(d.line, " "); d.line = pick(d, methods) + " " + rest },
	func(d *drawn) { d.line = strings.TrimSuffix(d.line, "HTTP/1.1") + pick(d, versions) },
	func(d *drawn) {
		i := d.IntN(len(d.header))
		d.header = append(slices.Delete(d.header, i, i+1), [2]string{"X", "y"})
	},
	func(d *drawn) { h := *d.any(); d.add(h[0], h[1]) },
	func(d *drawn) { d.add(d.any()[0], pick(d, odd)) },
	func(d *drawn) { d.any()[1] = pick(d, odd) },
	func(d *drawn) { d.any()[1] = string(d.bytes(d.IntN(40))) },
	func(d *drawn) { h := d.any(); h[1] += pick(d, odd) },
	func(d *drawn) { h := d.any(); h[1] = pick(d, odd) + h[1] },
	func(d *drawn) { h := d.any(); h[1] = h[1][:d.IntN(len(h[1])+1)] },
	func(d *drawn) {
		h := d.any()
		i := d.IntN(len(h[1]) + 1)
		h[1] = h[1][:i] + string(d.bytes(1)) + h[1][i:]
	},
	func(d *drawn) {
		h := d.any()
		i := d.IntN(len(h[0]) + 1)
		h[0] = h[0][:i] + string(d.bytes(1)) + h[0][i:]
	},
	func(d *drawn) { h := d.any(); i := d.IntN(len(h[1]) + 1); h[1] = h[1][:i] + "\r\n " + h[1][i:] },
	func(d *drawn) {
		d.named("Sec-WebSocket-Key")[1] = base64.StdEncoding.EncodeToString(d.bytes(d.IntN(30)))
	},
	func(d *drawn) { d.add("Origin", pick(d, origins)) },
	func(d *drawn) { d.add("Sec-Fetch-Site", pick(d, []string{"cross-site", "same-site", "Cross-Site"})) },
	func(d *drawn) {
		d.add("Content-Length", pick(d, []string{"0", "5", "300000", "-1", "x", "99999999999999999999"}))
	},
	func(d *drawn) {
		d.add("Transfer-Encoding", pick(d, []string{"chunked", "gzip", "identity", "chunked, chunked"}))
	},
	func(d *drawn) { d.add("Expect", pick(d, []string{"100-continue", "x"})) },
	func(d *drawn) { d.end = pick(d, []string{"\n", "\r", "\r\r\n", ""}) },
	func(d *drawn) { d.any()[1] = strings.Repeat(pick(d, odd), 1+d.IntN(1000)) },
}

// The values of random requests.
var (
	tokens     = []string{"", "x", "keep-alive", "h2c", "upgrades", "websocket2", "x;q=1", "\"upgrade\"", "x y"}
	extensions = []string{"permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; server_max_window_bits=8", "x, permessage-deflate", ";;,", "x"}
	odd        = []string{"", " ", ",", "x", "13", "8", "13, 8", "0", "upgrade", "websocket", "websocket/13", "upgrade websocket", "memory", "*", "=", "==", "é", "\xff", "\u00a0", "web\u017focket", "websoc\u212aet", "%0d%0a", "K", "-1", ";", "\"", "dGhlIHNhbXBsZSBub25jZQ=="}
	methods    = []string{"GET", "get", "POST", "HEAD", "CONNECT", "OPTIONS", "PRI", "", "GE T", "é"}
	targets    = []string{"/", "*", "", "//", "http://memory/", "http://example.com/", "/%zz", "/ /", "/\x00", "memory:80"}
	versions   = []string{"HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1 ", "HTTP/11", "http/1.1", ""}
	origins    = []string{"http://memory", "https://Memory", "null", "http://example.com", "http://memory.example.com", "http://example.com/memory", "memory", "http://memory:80", "//memory", "http://memory@example.com", "http://example.com@memory", ""}
)

// list is a header that lists tokens.
func (d *drawn) list() *[2]string { return d.named(pick(d, []string{"Connection", "Upgrade"})) }

func (d *drawn) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}
