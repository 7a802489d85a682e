package ratelog

import (
	"errors"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/guard"
)

// The lengths in bytes to which a record's attributes are cut.
const (
	maxValue  = 100      // a value: a path, a method, an origin
	maxReason = 300      // a sentence with such values
	maxFault  = 1 << 10  // an error of the service itself, which a client may have a part in
	maxPanic  = 12 << 10 // an error with the stack of a panic
)

// Cut returns text with at most about 100 bytes. What is cut ends with an ellipsis, is
// cut between runes, and keeps nothing of the text in memory.
func Cut(text string) string { return cutAt(text, maxValue) }

func cutAt(text string, size int) string {
	if len(text) <= size {
		return text
	}
	end := size
	for end > size-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end]) + "…"
}

// Short returns an error for a record of this level. It is err itself if its text is
// short, else an error with the beginning of the text that wraps err.
func Short(level slog.Level, err error) error {
	size := maxReason
	if level >= slog.LevelWarn {
		size = maxFault
	}
	if _, panicked := errors.AsType[*guard.PanicError](err); panicked {
		size = maxPanic
	}
	text := err.Error()
	if len(text) <= size {
		return err
	}
	return &shortError{cutAt(text, size), err}
}

// shortError is an error with a shorter text.
type shortError struct {
	text string
	err  error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.err }

// shorten cuts the values of args. Names, which come before them, are ours.
func shorten(level slog.Level, args []any) {
	for i := 1; i < len(args); i += 2 {
		switch value := args[i].(type) {
		case string:
			args[i] = Cut(value)
		case error:
			args[i] = Short(level, value)
		}
	}
}
