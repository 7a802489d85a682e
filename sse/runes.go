package sse

import (
	"strings"
	"unicode/utf8"
)

// RuneBuffer joins the pieces of a text that may have been cut within a rune, such as the
// tokens of a language model: it holds an incomplete rune at the end of a piece back for
// the next one. Each piece can then be sent as text in UTF-8. The zero RuneBuffer is empty
// and ready to use.
//
//	var runes sse.RuneBuffer
//	for token := range tokens {
//		if text := runes.Add(token); text != "" {
//			err = stream.SendJSON("token", text)
//		}
//	}
//
// Bytes that are no part of a rune, wherever they are cut, are returned as they are, and
// refused by [Writer.Send]. A RuneBuffer is not safe for concurrent use.
type RuneBuffer struct{ cut string } // shorter than a rune

// Add adds a piece, and returns the text up to its last complete rune. It may be empty.
func (b *RuneBuffer) Add(piece string) string {
	text := b.cut + piece
	end := len(text)
	for i := end - 1; i >= max(0, end-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRuneInString(text[i:]) {
				end = i
			}
			break
		}
	}
	b.cut = strings.Clone(text[end:])
	return text[:end]
}

// Rest returns what is held back, and empties the buffer. After the last piece it is empty,
// unless the text ends within a rune.
func (b *RuneBuffer) Rest() string {
	rest := b.cut
	b.cut = ""
	return rest
}
