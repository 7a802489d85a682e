package redisjournal

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/fanfare-go/fanfare/broadcast"
)

// idPrefix begins the ID of each entry in Redis. Such an ID is two numbers. The first
// would be the time; here it is always 0, so that Redis increments the second by one for
// each entry. The second is the sequence.
const idPrefix = "0-"

// parseID returns the ID of an entry from an ID in Redis, as it is in a reply.
func (j *Journal) parseID(epoch uint64, entryID any) (broadcast.ID, error) {
	text, _ := entryID.(string)
	number, ok := strings.CutPrefix(text, idPrefix)
	seq, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return broadcast.ID{}, j.wrap(fmt.Errorf("%q is not the ID of a journal's entry", text))
	}
	return broadcast.MakeID(epoch, seq), nil
}

// formatID returns the ID of an entry in Redis. Redis refuses to read after the highest
// possible ID, so that one becomes the one before it.
func formatID(id broadcast.ID) string {
	return idPrefix + strconv.FormatUint(min(id.Seq(), math.MaxUint64-1), 10)
}

// previous returns the ID just before id.
func previous(id broadcast.ID) broadcast.ID { return broadcast.MakeID(id.Epoch(), id.Seq()-1) }

// encode turns messages into the arguments of append.lua: five values for each.
func encode(ms []broadcast.Message) []any {
	values := make([]any, 0, 5*len(ms))
	for _, m := range ms {
		values = append(values, m.Topic, m.Type, m.From, m.Data, m.Binary)
	}
	return values
}

// decode returns the message in an entry. If the entry is not a message, decode returns
// its ID alone.
func decode(id broadcast.ID, fields []any) broadcast.Message {
	m := broadcast.Message{ID: id}
	for i := 0; i+1 < len(fields); i += 2 {
		value, _ := fields[i+1].(string)
		switch fields[i] {
		case "topic":
			m.Topic = value
		case "type":
			m.Type = value
		case "from":
			m.From = value
		case "data":
			m.Data = []byte(value)
		case "binary":
			m.Binary = value == "1"
		}
	}
	if m.Topic == "" {
		return broadcast.Message{ID: id}
	}
	return m
}
