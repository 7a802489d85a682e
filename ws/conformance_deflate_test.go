package ws_test

import (
	"compress/flate"
	"fmt"
	"strings"
)

// deflated has messages in permessage-deflate (RFC 7692 section 7.2), those of its
// section 7.2.3 among them.
func deflated() (vectors []vector) {
	const compressed = fin | rsv1 | text
	hello := []frame{{fin | text, "Hello"}}
	vectors = []vector{
		{name: "one block", send: []frame{{compressed, "\xf2\x48\xcd\xc9\xc9\x07\x00"}}, back: hello},
		{name: "in two frames", send: []frame{{rsv1 | text, "\xf2\x48\xcd"}, {fin | cont, "\xc9\xc9\x07\x00"}}, back: hello},
		{name: "in frames of a byte", send: parts(rsv1|text, "\xf2\x48\xcd\xc9\xc9\x07\x00", 1), back: hello},
		{name: "a ping between", send: []frame{{rsv1 | text, "\xf2\x48\xcd"}, {fin | ping, "p"}, {fin | cont, "\xc9\xc9\x07\x00"}}, back: hello, pongs: []string{"p"}},
		{name: "a block without compression", send: []frame{{compressed, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"}}, back: hello},
		{name: "a block that is the last", send: []frame{{compressed, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"}}, back: hello},
		{name: "two blocks", send: []frame{{compressed, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"}}, back: hello},
		{name: "an empty message", send: []frame{{compressed, "\x00"}}, back: []frame{{fin | text, ""}}},
		{name: "an empty message in two frames", send: []frame{{rsv1 | text, ""}, {fin | cont, "\x00"}}, back: []frame{{fin | text, ""}}},
		{name: "twice the same, without what was before", send: []frame{{compressed, "\xf2\x48\xcd\xc9\xc9\x07\x00"}, {compressed, "\xf2\x48\xcd\xc9\xc9\x07\x00"}}, back: append(hello, hello...)},
		{name: "a message that is not deflated", send: hello, back: hello},
		{name: "one that is not, between two that are", send: []frame{{compressed, "\xf2\x48\xcd\xc9\xc9\x07\x00"}, {fin | bin, "\xff"}, {compressed, "\xf2\x48\xcd\xc9\xc9\x07\x00"}},
			back: []frame{hello[0], {fin | bin, "\xff"}, hello[0]}},
		{name: "fragments that are not deflated", send: []frame{{text, "Hel"}, {fin | cont, "lo"}}, back: hello},
		{name: "RSV1 in a continuation", send: []frame{{rsv1 | text, "\xf2\x48\xcd"}, {fin | rsv1 | cont, "\xc9\xc9\x07\x00"}}, closes: 1002},
		{name: "RSV1 in a continuation of what is not deflated", send: []frame{{text, "a"}, {fin | rsv1 | cont, "b"}}, closes: 1002},
		{name: "RSV1 in a ping", send: []frame{{fin | rsv1 | ping, ""}}, closes: 1002},
		{name: "RSV1 in a close frame", send: []frame{{fin | rsv1 | clos, closing(1000, "")}}, closes: 1002},
		{name: "RSV2 beside it", send: []frame{{compressed | 0x20, "\x00"}}, closes: 1002},
		{name: "what is not deflated", send: []frame{{compressed, "Hello"}}, closes: 1002},
		// Its rest is the tail that RFC 7692 section 7.2.2 has the receiver append.
		{name: "text in a block that ends too early", send: []frame{{compressed, "\x00\x05\x00\xfa\xff\x48"}}, closes: 1007},
		{name: "a block with a wrong length", send: []frame{{compressed, "\x00\x05\x00\x00\x00\x48\x65\x6c\x6c\x6f\x00"}}, closes: 1002},
		{name: "a reach beyond what there is", send: []frame{{compressed, "\xf2\x00\x11\x00\x00"}}, closes: 1002},
		{name: "text that is not UTF-8", send: []frame{{compressed, deflate("a\xff", flate.BestSpeed)}}, closes: 1007},
		{name: "text that ends within a rune", send: []frame{{compressed, deflate("a\xc3", flate.BestSpeed)}}, closes: 1007},
		{name: "bytes of any kind", send: []frame{{fin | rsv1 | bin, deflate("\xff\xfe", flate.BestSpeed)}}, back: []frame{{fin | bin, "\xff\xfe"}}},
	}
	for level, name := range map[int]string{flate.NoCompression: "stored", flate.BestSpeed: "fast", flate.BestCompression: "best", flate.HuffmanOnly: "Huffman codes alone"} {
		for _, size := range []int{16, 511, 512, 513, 4096, 32 << 10, 64 << 10, 1 << 20} {
			payload := strings.Repeat("all work and no pláy ", size/21+1)
			packed := deflate(payload, level)
			back := []frame{{fin | text, payload}}
			vectors = append(vectors,
				vector{name: fmt.Sprint(name, ", ", size), send: []frame{{compressed, packed}}, back: back, large: true},
				vector{name: fmt.Sprint(name, ", ", size, " in frames of 1,000"), send: parts(rsv1|text, packed, 1000), back: back, large: true},
			)
		}
	}
	for i := range vectors {
		vectors[i].part, vectors[i].compressed = "RFC 7692 permessage-deflate", true
	}
	return vectors
}

// deflate is RFC 7692 section 7.2.1.
func deflate(payload string, level int) string {
	var b strings.Builder
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write([]byte(payload))
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}
