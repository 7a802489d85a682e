package abuse_test

import (
	"bytes"
	"compress/flate"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// bomb returns the deflated form of a message of so many MiB. Each MiB is deflated by
// itself, so that one block, repeated, makes the whole.
func bomb(t *testing.T, mebibytes int) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	all := strings.Repeat(b.String(), mebibytes)
	inflated, err := io.Copy(io.Discard, flate.NewReader(strings.NewReader(all+"\x01\x00\x00\xff\xff")))
	require.NoError(t, err)
	require.EqualValues(t, mebibytes<<20, inflated)
	return strings.TrimSuffix(all, "\x00\x00\xff\xff") // RFC 7692 section 7.2.1
}

// inFragments returns the frames of a message in fragments of size bytes, with between
// after each of them.
func inFragments(first byte, payload string, size int, between string) string {
	var b strings.Builder
	for part := range slices.Chunk([]byte(payload), size) {
		b.WriteString(frame(first, string(part)) + between)
		first = continuation
	}
	return b.String() + frame(final|continuation, "")
}

// A deflated message that would inflate to 100 MiB is refused with 1009 as soon as it is
// larger than MaxMessage. It is not inflated further: less than a MiB is allocated for it.
func TestBombsAreNotInflated(t *testing.T) {
	v := abused(t, ws.Options{Compression: true})
	v.withBystanders(t)
	const mebibytes, atATime = 100, 10
	payload := bomb(t, mebibytes)
	t.Logf("%d MiB in %d KiB", mebibytes, len(payload)>>10)
	for _, test := range []struct{ name, sent string }{
		{"in one frame", frame(final|deflated|binaryFrame, payload)},
		{"as text", frame(deflated|textFrame, payload)},
		{"in fragments", inFragments(deflated|binaryFrame, payload, 1000, "")},
		{"in fragments of a byte", inFragments(deflated|binaryFrame, payload, 1, "")},
		{"in fragments with pings between", inFragments(deflated|binaryFrame, payload, 1000, frame(pingFrame, "x"))},
		{"after a message", frame(final|binaryFrame, "x") + frame(final|deflated|binaryFrame, payload)},
	} {
		t.Run(test.name, func(t *testing.T) {
			peers := make([]*peer, atATime)
			for i := range peers {
				peers[i] = v.connect(t, socketPaths[i%2], "Sec-WebSocket-Extensions: permessage-deflate")
				require.Contains(t, peers[i].response.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var all sync.WaitGroup
			for _, p := range peers {
				all.Go(func() { _, _ = io.WriteString(p, test.sent) }) // it may be cut
				all.Go(func() {
					code, err := p.closeCode()
					assert.NoError(t, err)
					assert.Equal(t, 1009, code)
					p.CloseWrite()
				})
			}
			all.Wait()
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d KiB were allocated for each of %d", allocated>>10/atATime, atATime)
			assert.Less(t, allocated, uint64(atATime<<20))
		})
	}
}
