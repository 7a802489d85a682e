package sse_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// A RuneBuffer holds an incomplete rune back for the next piece, and nothing else.
func TestRuneBufferHoldsBackAnIncompleteRune(t *testing.T) {
	for _, test := range []struct {
		name, why string
		pieces    []string
		want      []string
		rest      string
	}{
		{"whole runes", "there is nothing to wait for", []string{"a", "ä", "€", "😀"}, []string{"a", "ä", "€", "😀"}, ""},
		{"a cut rune", "it goes out with the next piece", []string{"a\xe2\x82", "\xac b"}, []string{"a", "€ b"}, ""},
		{"byte by byte", "a rune has up to four", []string{"\xf0", "\x9f", "\x98", "\x80"}, []string{"", "", "", "😀"}, ""},
		{"an empty piece", "the rune may still be completed", []string{"\xc3", "", "\xa4"}, []string{"", "", "ä"}, ""},
		{"the end within a rune", "nothing completes it", []string{"a\xe2\x82"}, []string{"a"}, "\xe2\x82"},
		{"bytes of no rune", "nothing would complete them", []string{"a\xff", "\x80b", "\xf8\x88"}, []string{"a\xff", "\x80b", "\xf8\x88"}, ""},
		{"what cannot become a rune", "ED A0 begins a surrogate, C0 nothing", []string{"\xed\xa0", "\xc0"}, []string{"\xed\xa0", "\xc0"}, ""},
		{"a rune that is never completed", "it is no rune after all", []string{"\xe2\x82", "x"}, []string{"", "\xe2\x82x"}, ""},
		{"U+FFFD itself", "it is a rune as any other", []string{"\xef\xbf", "\xbd"}, []string{"", "\ufffd"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b sse.RuneBuffer
			var got []string
			for _, piece := range test.pieces {
				got = append(got, b.Add(piece))
			}
			require.Equal(t, test.want, got, test.why)
			require.Equal(t, test.rest, b.Rest())
			require.Empty(t, b.Rest())
		})
	}
}

// However a text is cut, a RuneBuffer returns all of it, in pieces of whole runes if the text
// is UTF-8.
func FuzzRuneBuffer(f *testing.F) {
	f.Add("aä€😀\ufffd", byte(1))
	f.Add("\xe2\x82\xff\xf0\x9f", byte(2))
	f.Fuzz(func(t *testing.T, text string, size byte) {
		var b sse.RuneBuffer
		var all strings.Builder
		for rest := text; rest != ""; {
			n := min(len(rest), int(size)%8+1)
			piece := b.Add(rest[:n])
			if utf8.ValidString(text) {
				require.True(t, utf8.ValidString(piece), "%q", piece)
			}
			all.WriteString(piece)
			rest = rest[n:]
		}
		rest := b.Rest()
		require.Less(t, len(rest), utf8.UTFMax)
		if utf8.ValidString(text) {
			require.Empty(t, rest)
		}
		require.Equal(t, text, all.String()+rest)
	})
}

// SendJSON refuses text that is not UTF-8, as Send does. It changes no byte of what it sends.
func TestSendJSONRefusesWhatSendRefuses(t *testing.T) {
	w := &recorder{header: http.Header{}}
	s, err := sse.NewWriter(w, httptest.NewRequest("POST", "/", nil), &sse.Options{Retry: -1})
	require.NoError(t, err)
	defer s.Close()
	for _, cut := range []any{"a\xe2\x82", map[string]string{"\xff": ""}, struct{ Text []any }{[]any{1, "\xe2\x82"}}} {
		require.ErrorIs(t, s.SendJSON("token", cut), sse.ErrInvalidEvent)
	}
	require.ErrorContains(t, s.SendJSON("token", "\xff"), "RuneBuffer")
	require.ErrorIs(t, s.Send(sse.Event{Type: "token", Data: []byte("a\xe2\x82")}), sse.ErrInvalidEvent)
	require.Empty(t, w.sent())
	require.NoError(t, s.SendJSON("", "\ufffd, and \\ufffd"))
	require.NoError(t, s.SendJSON("", json.RawMessage(`"\ufffd"`)))
	require.Equal(t, "data: \"\ufffd, and \\\\ufffd\"\n\ndata: \"\\ufffd\"\n\n", w.sent())
}
