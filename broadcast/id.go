package broadcast

import (
	"errors"
	"fmt"
	"strconv"
)

// ID is a position in a broadcaster's log: everything up to it has been seen. A
// message's ID is the position just after it. IDs are comparable with ==; the
// zero ID means "no position".
//
// Its text is epoch and sequence in hexadecimal ("1f-2a"). That is the id of an SSE event,
// and opaque to clients.
type ID struct {
	epoch, seq uint64
}

// unknownEpoch is never a log's epoch: a position in it resumes as a gap.
const unknownEpoch = 1

// MakeID returns the ID of a sequence within an epoch, for implementations of a Journal.
// Epoch 0 has no positions: MakeID returns the zero ID. Epoch 1 is reserved for a position
// that is not known, which always resumes as a gap.
func MakeID(epoch, seq uint64) ID {
	if epoch == 0 {
		return ID{}
	}
	return ID{epoch, seq}
}

var errID = errors.New(`broadcast: not an ID (want the text of one, such as "1f-2a")`)

// ParseID parses the text of an ID. The empty string is the zero ID; anything
// else that [ID.String] would not have written is an error.
func ParseID(s string) (ID, error) {
	if s == "" {
		return ID{}, nil
	}
	epoch, rest, ok := parseHex(s)
	if !ok || epoch == 0 || rest == "" || rest[0] != '-' {
		return ID{}, errID
	}
	seq, rest, ok := parseHex(rest[1:])
	if !ok || rest != "" {
		return ID{}, errID
	}
	return ID{epoch, seq}, nil
}

// parseHex parses a number in lower-case hexadecimal without leading zeros, and
// returns what follows it.
func parseHex(s string) (n uint64, rest string, ok bool) {
	i := 0
	for ; i < len(s); i++ {
		var digit byte
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digit = c - '0'
		case 'a' <= c && c <= 'f':
			digit = c - 'a' + 10
		default:
			return n, s[i:], i > 0 && (i == 1 || s[0] != '0')
		}
		if i == 16 {
			return 0, "", false
		}
		n = n<<4 | uint64(digit)
	}
	return n, "", i > 0 && (i == 1 || s[0] != '0')
}

// Epoch returns the log that the ID belongs to; 0 for the zero ID.
func (id ID) Epoch() uint64 { return id.epoch }

// Seq returns the position within the log. Sequences rise by one with each entry of the
// log, whatever its topic; the first has 1.
func (id ID) Seq() uint64 { return id.seq }

// IsZero reports whether the ID is no position.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the ID's text; "" for the zero ID.
func (id ID) String() string {
	b, _ := id.AppendText(make([]byte, 0, 33))
	return string(b)
}

// AppendText appends the ID's text to b. The error is always nil.
func (id ID) AppendText(b []byte) ([]byte, error) {
	if id.IsZero() {
		return b, nil
	}
	b = strconv.AppendUint(b, id.epoch, 16)
	b = append(b, '-')
	return strconv.AppendUint(b, id.seq, 16), nil
}

// MarshalText returns the ID's text, so that an ID in a struct becomes a string
// in JSON. The error is always nil.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText sets the ID from its text, as [ParseID] does.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return fmt.Errorf("%w: %.40q", err, text)
	}
	*id = parsed
	return nil
}
