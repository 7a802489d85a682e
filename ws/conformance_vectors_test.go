package ws_test

import (
	"fmt"
	"strings"

	"github.com/fanfare-go/fanfare/ws"
)

// lengths has messages of the lengths at which a frame's header changes, and lengths that
// are not in their shortest form (RFC 6455 section 5.2).
func lengths() (vectors []vector) {
	const part = "5.2 lengths"
	for _, size := range []int{0, 1, 2, 7, 8, 9, 124, 125, 126, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, 65537} {
		for opcode, kind := range map[byte]string{text: "text", bin: "binary"} {
			f := frame{fin | opcode, strings.Repeat("x", size)}
			vectors = append(vectors, vector{part: part, name: fmt.Sprint(kind, " of ", size), send: []frame{f}, back: []frame{f}, large: size > 5000})
		}
	}
	for _, long := range []struct {
		name   string
		length []byte
	}{
		{"7 bits are enough, and 16 are used", []byte{126, 0, 125}},
		{"7 bits are enough, and 64 are used", []byte{127, 0, 0, 0, 0, 0, 0, 0, 1}},
		{"16 bits are enough, and 64 are used", []byte{127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}},
		{"the highest bit is set", []byte{127, 0x80, 0, 0, 0, 0, 0, 0, 0}},
		{"all bits are set", []byte{127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	} {
		vectors = append(vectors, vector{part: part, name: long.name, closes: 1002, wire: func(p *peer) string {
			length := append([]byte(nil), long.length...)
			key := ""
			if !p.masked {
				length[0] |= 0x80
				key = "\x00\x00\x00\x00"
			}
			return string([]byte{fin | bin}) + string(length) + key + strings.Repeat("x", 300)
		}})
		wrong := vectors[len(vectors)-1]
		vectors = append(vectors, vector{part: part, name: long.name + ", after a message", back: []frame{{fin | text, "hello"}}, closes: 1002, wire: func(p *peer) string {
			return p.frames(frame{fin | text, "hello"}) + wrong.wire(p)
		}})
	}
	return vectors
}

// masking has frames that are masked by the right side, and by the wrong one (RFC 6455
// sections 5.1 and 5.3).
func masking() (vectors []vector) {
	const part = "5.1, 5.3 masking"
	other := func(first byte, payload string) func(p *peer) string {
		return func(p *peer) string {
			if p.masked {
				return masked(first, payload)
			}
			return unmasked(first, payload)
		}
	}
	vectors = append(vectors,
		vector{part: part, name: "a message, masked by the wrong side", wire: other(fin|text, "hello"), closes: 1002},
		vector{part: part, name: "a ping, masked by the wrong side", wire: other(fin|ping, ""), closes: 1002},
		vector{part: part, name: "a message before one that is masked by the wrong side", back: []frame{{fin | text, "hello"}}, closes: 1002, wire: func(p *peer) string {
			return p.frames(frame{fin | text, "hello"}) + other(fin|text, "hello")(p)
		}},
		vector{part: part, name: "a close frame, masked by the wrong side", wire: other(fin|clos, closing(1000, "")), closes: 1002},
	)
	for _, key := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x00\x00\x00\x01", "hell"} {
		vectors = append(vectors, vector{part: part, name: fmt.Sprintf("the key %x", key), back: []frame{{fin | text, "hello"}}, wire: func(p *peer) string {
			if p.masked {
				return p.frames(frame{fin | text, "hello"})
			}
			b := []byte("hello")
			for i := range b {
				b[i] ^= key[i%4]
			}
			return header(fin|text, 0x80, len(b)) + key + string(b)
		}})
	}
	return vectors
}

func framings() []vector { return append(lengths(), masking()...) }

// fragments has messages in several frames (RFC 6455 section 5.4).
func fragments() []vector {
	vectors := []vector{
		{name: "two frames", send: []frame{{text, "a"}, {fin | cont, "b"}}, back: []frame{{fin | text, "ab"}}},
		{name: "binary frames", send: []frame{{bin, "\xff"}, {cont, "\xfe"}, {fin | cont, "\xfd"}}, back: []frame{{fin | bin, "\xff\xfe\xfd"}}},
		{name: "empty frames", send: []frame{{text, ""}, {cont, ""}, {fin | cont, ""}}, back: []frame{{fin | text, ""}}},
		{name: "an empty frame first", send: []frame{{text, ""}, {fin | cont, "a"}}, back: []frame{{fin | text, "a"}}},
		{name: "an empty frame between", send: []frame{{text, "a"}, {cont, ""}, {fin | cont, "b"}}, back: []frame{{fin | text, "ab"}}},
		{name: "an empty frame last", send: []frame{{text, "a"}, {fin | cont, ""}}, back: []frame{{fin | text, "a"}}},
		{name: "a ping between", send: []frame{{text, "a"}, {fin | ping, "now"}, {fin | cont, "b"}}, back: []frame{{fin | text, "ab"}}, pongs: []string{"now"}},
		{name: "pongs between", send: []frame{{text, "a"}, {fin | pong, ""}, {cont, "b"}, {fin | pong, "x"}, {fin | cont, "c"}}, back: []frame{{fin | text, "abc"}}},
		{name: "two messages, each in fragments", send: []frame{{text, "a"}, {fin | cont, "b"}, {bin, "c"}, {fin | cont, "d"}}, back: []frame{{fin | text, "ab"}, {fin | bin, "cd"}}},
		{name: "a hundred frames", send: hundred(), back: []frame{{fin | text, strings.Repeat("é", 50)}}},
		{name: "a close frame between", send: []frame{{text, "a"}, {fin | clos, closing(1000, "")}}, closes: 1000},
		{name: "the end of nothing", send: []frame{{fin | cont, "a"}}, closes: 1002},
		{name: "the middle of nothing", send: []frame{{cont, "a"}, {fin | text, "b"}}, closes: 1002},
		{name: "the end of nothing, after a message", send: []frame{{fin | text, "a"}, {fin | cont, "b"}}, back: []frame{{fin | text, "a"}}, closes: 1002},
		{name: "text within text", send: []frame{{text, "a"}, {fin | text, "b"}}, closes: 1002},
		{name: "a fragment within text", send: []frame{{text, "a"}, {text, "b"}, {fin | cont, "c"}}, closes: 1002},
		{name: "binary within text", send: []frame{{text, "a"}, {fin | bin, "b"}}, closes: 1002},
		{name: "text within binary, after a ping", send: []frame{{bin, "a"}, {fin | ping, "p"}, {fin | text, "b"}}, pongs: []string{"p"}, closes: 1002},
	}
	for i := range vectors {
		vectors[i].part = "5.4 fragmentation"
	}
	return vectors
}

// hundred is a text of two-byte runes in frames of one byte.
func hundred() (frames []frame) {
	for i := range 100 {
		first := byte(cont)
		switch i {
		case 0:
			first = text
		case 99:
			first = fin | cont
		}
		frames = append(frames, frame{first, "é"[i%2 : i%2+1]})
	}
	return frames
}

// reserved has bits and opcodes that are reserved (RFC 6455 section 5.2).
func reserved() (vectors []vector) {
	for bits := byte(0x10); bits <= 0x70; bits += 0x10 {
		for opcode, kind := range map[byte]string{text: "text", bin: "binary", ping: "a ping", pong: "a pong", clos: "a close frame"} {
			payload := "a"
			if opcode == clos {
				payload = closing(1000, "")
			}
			vectors = append(vectors, vector{part: "5.2 reserved bits", name: fmt.Sprintf("%03b in %s", bits>>4, kind), closes: 1002, send: []frame{{fin | bits | opcode, payload}}})
		}
		vectors = append(vectors, vector{part: "5.2 reserved bits", name: fmt.Sprintf("%03b in a continuation", bits>>4), closes: 1002, send: []frame{{text, "a"}, {fin | bits | cont, "b"}}})
	}
	hello := frame{fin | text, "hello"}
	for _, opcode := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		part, name := "5.2 reserved opcodes", fmt.Sprintf("%#x", opcode)
		vectors = append(vectors,
			vector{part: part, name: name, closes: 1002, send: []frame{{fin | opcode, ""}}},
			vector{part: part, name: name + " with a payload", closes: 1002, send: []frame{{fin | opcode, "x"}}},
			vector{part: part, name: name + " after a message", closes: 1002, send: []frame{hello, {fin | opcode, "x"}, hello}, back: []frame{hello}},
			vector{part: part, name: name + " between fragments", closes: 1002, send: []frame{{text, "a"}, {fin | opcode, "x"}, {fin | cont, "b"}}},
		)
	}
	return vectors
}

// controls has pings and pongs (RFC 6455 section 5.5).
func controls() (vectors []vector) {
	hello := frame{fin | text, "hello"}
	for _, size := range []int{0, 1, 124, 125} {
		payload := strings.Repeat("\xff", size)
		vectors = append(vectors,
			vector{name: fmt.Sprint("a ping of ", size), send: []frame{{fin | ping, payload}}, pongs: []string{payload}},
			vector{name: fmt.Sprint("a pong of ", size, " that nobody asked for"), send: []frame{{fin | pong, payload}, hello}, back: []frame{hello}},
		)
	}
	var pings []frame
	var pongs []string
	for i := range 50 {
		pings = append(pings, frame{fin | ping, fmt.Sprint(i)})
		pongs = append(pongs, fmt.Sprint(i))
	}
	vectors = append(vectors,
		vector{name: "fifty pings in a row", send: pings, pongs: pongs},
		vector{name: "a ping before a message", send: []frame{{fin | ping, "p"}, hello}, pongs: []string{"p"}, back: []frame{hello}},
	)
	for opcode, kind := range map[byte]string{ping: "ping", pong: "pong"} {
		vectors = append(vectors,
			vector{name: "a " + kind + " of 126 bytes", closes: 1002, send: []frame{{fin | opcode, strings.Repeat("x", 126)}}},
			vector{name: "a " + kind + " of 65,536 bytes", closes: 1002, send: []frame{{fin | opcode, strings.Repeat("x", 65536)}}, large: true},
			vector{name: "a " + kind + " in fragments", closes: 1002, send: []frame{{opcode, "a"}, {fin | cont, "b"}}},
			vector{name: "a " + kind + " that is a fragment, within a message", closes: 1002, send: []frame{{text, "a"}, {opcode, "p"}, {fin | cont, "b"}}},
		)
	}
	for i := range vectors {
		vectors[i].part = "5.5 pings and pongs"
	}
	return vectors
}

// closings has the close handshake (RFC 6455 sections 5.5.1 and 7).
func closings() (vectors []vector) {
	hello := frame{fin | text, "hello"}
	const frames, statuses = "5.5.1, 7.1 closing", "7.4 status codes"
	most := strings.Repeat("x", 123)
	vectors = append(vectors,
		vector{part: frames, name: "without a code", send: []frame{{fin | clos, ""}}, closes: 1005},
		vector{part: frames, name: "a code without a reason", send: []frame{{fin | clos, closing(1000, "")}}, closes: 1000},
		vector{part: frames, name: "with a reason", send: []frame{{fin | clos, closing(1000, "bye")}}, closes: 1000, reason: "bye"},
		vector{part: frames, name: "with the longest reason", send: []frame{{fin | clos, closing(1000, most)}}, closes: 1000, reason: most},
		vector{part: frames, name: "with a reason that is not ASCII", send: []frame{{fin | clos, closing(1000, "schön \U0001F3BA")}}, closes: 1000, reason: "schön \U0001F3BA"},
		vector{part: frames, name: "half a code", send: []frame{{fin | clos, "\x03"}}, closes: 1002},
		vector{part: frames, name: "a reason that is too long", send: []frame{{fin | clos, closing(1000, most+"x")}}, closes: 1002},
		vector{part: frames, name: "a reason that is not UTF-8", send: []frame{{fin | clos, closing(1000, "a\xff")}}, closes: 1007},
		vector{part: frames, name: "a reason that ends within a rune", send: []frame{{fin | clos, closing(1000, "a\xc3")}}, closes: 1007},
		vector{part: frames, name: "a reason with a surrogate", send: []frame{{fin | clos, closing(1000, "\xed\xa0\x80")}}, closes: 1007},
		vector{part: frames, name: "in fragments", send: []frame{{clos, closing(1000, "")}, {fin | cont, ""}}, closes: 1002},
		vector{part: frames, name: "a message before it", send: []frame{hello, {fin | clos, closing(1001, "")}}, back: []frame{hello}, closes: 1001},
		vector{part: frames, name: "a message after it", send: []frame{{fin | clos, closing(1001, "")}, hello}, closes: 1001},
		vector{part: frames, name: "a ping after it", send: []frame{{fin | clos, closing(1001, "")}, {fin | ping, "x"}}, closes: 1001},
		vector{part: frames, name: "another one after it", send: []frame{{fin | clos, closing(1001, "")}, {fin | clos, closing(1002, "")}}, closes: 1001},
		vector{part: frames, name: "what is no frame after it", send: []frame{{fin | clos, closing(1001, "")}, {0xff, "x"}}, closes: 1001},
		vector{part: frames, name: "a message and many fragments before it", send: append(hundred(), frame{fin | clos, closing(1000, "")}),
			back: []frame{{fin | text, strings.Repeat("é", 50)}}, closes: 1000},
	)
	for _, code := range codes() {
		v := vector{part: statuses, name: fmt.Sprint(code), send: []frame{{fin | clos, closing(code, "bye")}}, closes: code, reason: "bye"}
		if !legal(code) {
			v.closes, v.reason = 1002, ""
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// codes are the status codes at the edges of all ranges.
func codes() (codes []ws.StatusCode) {
	for code := ws.StatusCode(990); code <= 1020; code++ {
		codes = append(codes, code)
	}
	return append(codes, 0, 1, 999, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 32768, 65535)
}

// legal reports whether a code may be in a close frame: those of the registry, and of the
// free ranges.
func legal(code ws.StatusCode) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}

// sizes has messages of up to 16 MiB, whole and in many frames.
func sizes() (vectors []vector) {
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 16 << 20} {
		for opcode, kind := range map[byte]string{text: "text", bin: "binary"} {
			payload := strings.Repeat("\xff\x00\xfe\xfd", size/4)
			if opcode == text {
				payload = strings.Repeat("€x", size/4)
			}
			back := []frame{{fin | opcode, payload}}
			name := fmt.Sprint(kind, " of ", size>>10, " KiB")
			if size < 16<<20 || opcode == text { // the largest take long
				vectors = append(vectors, vector{name: name, send: back, back: back})
			}
			if size < 16<<20 {
				vectors = append(vectors, vector{name: name + " in frames of 1,000", send: parts(opcode, payload, 1000), back: back})
			}
			if size < 16<<20 || opcode == bin {
				vectors = append(vectors, vector{name: name + " in frames of 64 KiB", send: parts(opcode, payload, 64<<10), back: back})
			}
		}
	}
	vectors = append(vectors, vector{name: "16 MiB and a byte", send: parts(bin, strings.Repeat("x", 16<<20+1), 1<<20), closes: 1009})
	for i := range vectors {
		vectors[i].part, vectors[i].large = "large messages", true
	}
	return vectors
}

// parts splits a message into frames.
func parts(opcode byte, payload string, size int) (frames []frame) {
	for len(payload) > size {
		frames = append(frames, frame{opcode, payload[:size]})
		payload, opcode = payload[size:], cont
	}
	return append(frames, frame{fin | opcode, payload})
}
