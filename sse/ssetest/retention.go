package ssetest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/fanfare-go/fanfare/sse"
)

// A stream writes keptBlocks blocks that are looked for later, 100 KB in all, and then
// passingBlocks others, so that nothing of the first is left in a buffer or in the window
// of a compression.
const (
	blockSize     = 4 << 10
	keptBlocks    = 25
	passingBlocks = 40
)

// retention looks for what was written to a stream. It can make each block again, so that
// none of them is in memory on its account.
type retention struct {
	nonce [32]byte
	block []byte
}

// checkRetention writes through a stream, and returns an error if much of that is still
// in memory afterwards.
func (p *probe) checkRetention(writer *sse.Writer, chain []http.ResponseWriter) error {
	if !slices.Contains([]string{"", "gzip", "deflate"}, chain[0].Header().Get("Content-Encoding")) {
		return nil // the window of another compression may be as large
	}
	var r retention
	_, _ = rand.Read(r.nonce[:])
	for i := range keptBlocks + passingBlocks {
		before := p.received.Load()
		if err := writer.Send(sse.Event{Type: "probe", Data: r.of(i)}); err != nil {
			return err
		}
		if !p.arrives(before) {
			return nil
		}
	}
	clear(r.block)
	if kept := r.count(); kept > keptBlocks/2 {
		return fmt.Errorf("of %d KB that were written, at least %d KB are still in memory: a middleware keeps the response's body, as some access logs do, "+
			"and its memory grows as long as the stream is open; the wrappers are %s; let it leave %q alone, or mount the stream, or middleware.Bypass, outside of it",
			keptBlocks*blockSize>>10, kept*blockSize>>10, types(chain[:len(chain)-1]), "text/event-stream")
	}
	return nil
}

// types lists the types of wrappers, the outermost last.
func types(chain []http.ResponseWriter) string {
	if len(chain) == 0 {
		return "none that can be seen"
	}
	names := make([]string, len(chain))
	for i, w := range chain {
		names[i] = fmt.Sprintf("%T", w)
	}
	return strings.Join(names, ", ")
}

// of returns the data of a block, which is valid until the next call: text, which a log
// keeps as it is.
func (r *retention) of(i int) []byte {
	r.block = r.block[:0]
	prefix := r.prefix()
	for len(r.block) < blockSize {
		r.block = append(r.block, prefix[:]...)
		r.block = append(r.block, byte('0'+i))
	}
	return r.block
}

// prefix is what all blocks repeat, each followed by a character of its own.
func (r *retention) prefix() (prefix [2 * sha256.Size]byte) {
	sum := sha256.Sum256(r.nonce[:])
	hex.Encode(prefix[:], sum[:])
	return prefix
}

// count returns how many of the blocks are in memory. It searches a dump of the heap: a
// comparison of its size would see what other goroutines allocate.
func (r *retention) count() (kept int) {
	f, err := os.CreateTemp("", "ssetest")
	if err != nil {
		return 0
	}
	defer os.Remove(f.Name())
	defer f.Close()
	runtime.GC()
	runtime.GC() // what a sync.Pool has
	debug.WriteHeapDump(f.Fd())
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0
	}
	prefix := r.prefix()
	var found [keptBlocks + passingBlocks]bool
	buffer := make([]byte, 1<<20)
	for n := 0; ; {
		m, err := f.Read(buffer[n:])
		n += m
		rest := buffer[:n]
		for i := bytes.Index(rest, prefix[:]); i >= 0 && i+len(prefix) < len(rest); i = bytes.Index(rest, prefix[:]) {
			if character := int(rest[i+len(prefix)]) - '0'; character >= 0 && character < len(found) {
				found[character] = true
			}
			rest = rest[i+len(prefix):]
		}
		if err != nil {
			break
		}
		n = copy(buffer, buffer[max(0, n-len(prefix)-1):n]) // a block may go on with the next read
	}
	for _, is := range found[:keptBlocks] {
		if is {
			kept++
		}
	}
	return kept
}
