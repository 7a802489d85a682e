package redisjournal

import "github.com/fanfare-go/fanfare/broadcast"

// ParseXRead parses a reply of XREAD and returns its messages.
func ParseXRead(reply []byte) (ms []broadcast.Message, err error) {
	entries, err := new(parser).parse(2, reply)
	for _, e := range entries {
		ms = append(ms, e.Message)
	}
	return ms, err
}
