package ws_test

import (
	"fmt"
	"strings"
)

// unicode has text that is UTF-8, and text that is not: the boundaries, broken
// sequences, overlong forms, surrogates and noncharacters that Markus Kuhn's decoder
// stress test lists. Each is sent whole, in frames of one byte, and up to the first byte
// that is wrong whatever follows, where it has to fail.
func unicode() (vectors []vector) {
	for _, c := range stress() {
		for _, more := range []string{"", "."} {
			payload := "κόσμε" + c.bytes + more
			name := fmt.Sprintf("%s: %x%s", c.name, c.bytes, more)
			wrong := firstWrong(payload)
			whole := vector{part: "8.1 UTF-8", name: name, send: []frame{{fin | text, payload}}}
			frames := whole
			frames.name, frames.send = name+" in frames of a byte", parts(text, payload, 1)
			if wrong < 0 {
				whole.back = []frame{{fin | text, payload}}
				frames.back = whole.back
				vectors = append(vectors, whole, frames)
				continue
			}
			whole.closes, frames.closes = 1007, 1007
			vectors = append(vectors, whole, frames)
			if wrong < len(payload) {
				at, inFrame := frames, whole
				at.part, inFrame.part = "8.1 UTF-8 that fails at once", "8.1 UTF-8 that fails at once"
				at.send = frames.send[:wrong+1]
				inFrame.wire = func(p *peer) string { // a frame that never ends
					f := p.frames(frame{fin | text, payload + strings.Repeat("x", 100)})
					return f[:len(f)-100-len(payload)+wrong+1]
				}
				vectors = append(vectors, at, inFrame)
			}
		}
	}
	// Control frames between those of a text are no part of it.
	vectors = append(vectors, vector{part: "8.1 UTF-8 that fails at once", name: "behind a ping, in a frame that never ends", closes: 1007, pongs: []string{strings.Repeat("p", 100)}, wire: func(p *peer) string {
		f := p.frames(frame{fin | text, "a\xff" + strings.Repeat("x", 100)})
		return p.frames(frame{fin | ping, strings.Repeat("p", 100)}) + f[:len(f)-100]
	}})
	return vectors
}

type sequence struct{ name, bytes string }

// stress has the sequences in the order of that test.
func stress() (all []sequence) {
	add := func(name, bytes string) { all = append(all, sequence{name, bytes}) }
	for n := 1; n <= 6; n++ {
		first, last := firstOf(n), firstOf(n+1)-1
		if n == 6 {
			last = 1<<31 - 1
		}
		add("the first of its length", encode(first, n))
		add("the last of its length", encode(last, n))
	}
	for _, r := range []uint32{0xD7FF, 0xE000, 0xFFFD, 0x10FFFF, 0x110000} {
		add("a boundary", encode(r, length(r)))
	}
	for n := 1; n <= 7; n++ {
		add("continuation bytes", strings.Repeat("\x80\xbf", 4)[:n])
	}
	var continuations strings.Builder
	for b := 0x80; b <= 0xbf; b++ {
		continuations.WriteByte(byte(b))
	}
	add("all continuation bytes", continuations.String())
	for _, first := range []struct{ low, high byte }{{0xc0, 0xdf}, {0xe0, 0xef}, {0xf0, 0xf7}, {0xf8, 0xfb}, {0xfc, 0xfd}} {
		var lonely strings.Builder
		for b := first.low; b <= first.high; b++ {
			lonely.WriteByte(b)
			lonely.WriteByte(' ')
		}
		add("lonely first bytes", lonely.String())
	}
	var incomplete strings.Builder
	for n := 2; n <= 6; n++ {
		for _, r := range []uint32{0, firstOf(n+1) - 1} {
			if n == 6 && r != 0 {
				r = 1<<31 - 1
			}
			s := encode(r, n)
			add("without its last byte", s[:n-1])
			incomplete.WriteString(s[:n-1])
		}
	}
	add("all of these", incomplete.String())
	for _, s := range []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"} {
		add("bytes that there are not", s)
	}
	for n := 2; n <= 6; n++ {
		add("an overlong slash", encode('/', n))
		add("the last overlong form", encode(firstOf(n)-1, n))
		add("an overlong NUL", encode(0, n))
	}
	for _, r := range []uint32{0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF} {
		add("a surrogate", encode(r, 3))
	}
	for _, high := range []uint32{0xD800, 0xDB7F, 0xDB80, 0xDBFF} {
		for _, low := range []uint32{0xDC00, 0xDFFF} {
			add("a pair of surrogates", encode(high, 3)+encode(low, 3))
		}
	}
	for plane := uint32(0); plane <= 0x10; plane++ {
		for _, r := range []uint32{plane<<16 | 0xFFFE, plane<<16 | 0xFFFF} {
			add("a noncharacter, which is text", encode(r, length(r)))
		}
	}
	var others strings.Builder
	for r := uint32(0xFDD0); r <= 0xFDEF; r++ {
		others.WriteString(encode(r, 3))
	}
	add("the other noncharacters", others.String())
	return all
}

// firstOf returns the first value that needs n bytes.
func firstOf(n int) uint32 {
	return []uint32{0, 0, 1 << 7, 1 << 11, 1 << 16, 1 << 21, 1 << 26, 1 << 31}[n]
}

func length(r uint32) int {
	n := 1
	for r >= firstOf(n+1) {
		n++
	}
	return n
}

// encode returns a value in n bytes, as in UTF-8 before RFC 3629, even if it needs fewer.
func encode(r uint32, n int) string {
	if n == 1 {
		return string([]byte{byte(r)})
	}
	b := make([]byte, n)
	for i := n - 1; i > 0; i-- {
		b[i] = 0x80 | byte(r&0x3f)
		r >>= 6
	}
	b[0] = byte(0xff<<(8-n)) | byte(r)
	return string(b)
}

// firstWrong returns the index of the first byte at which a text cannot be UTF-8 whatever
// follows. It returns the length of a text that only ends too early, and -1 for UTF-8.
// The rules are table 3-7 of the Unicode Standard.
func firstWrong(s string) int {
	type span struct{ low, high byte }
	tail := span{0x80, 0xbf}
	for i := 0; i < len(s); {
		var follow []span
		switch b := s[i]; {
		case b <= 0x7f:
		case b >= 0xc2 && b <= 0xdf:
			follow = []span{tail}
		case b == 0xe0:
			follow = []span{{0xa0, 0xbf}, tail}
		case b == 0xed:
			follow = []span{{0x80, 0x9f}, tail}
		case b >= 0xe1 && b <= 0xef:
			follow = []span{tail, tail}
		case b == 0xf0:
			follow = []span{{0x90, 0xbf}, tail, tail}
		case b >= 0xf1 && b <= 0xf3:
			follow = []span{tail, tail, tail}
		case b == 0xf4:
			follow = []span{{0x80, 0x8f}, tail, tail}
		default:
			return i
		}
		i++
		for _, f := range follow {
			switch {
			case i == len(s):
				return i
			case s[i] < f.low || s[i] > f.high:
				return i
			}
			i++
		}
	}
	return -1
}
