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
	seq, ok := parseSequence(text)
	if !ok {
		return broadcast.ID{}, j.wrap(fmt.Errorf("%q is not the ID of a journal's entry", text))
	}
	return broadcast.MakeID(epoch, seq), nil
}

// parseSequence returns the sequence in the ID of an entry in Redis.
func parseSequence(entryID string) (uint64, bool) {
	number, ok := strings.CutPrefix(entryID, idPrefix)
	seq, err := strconv.ParseUint(number, 10, 64)
	return seq, ok && err == nil
}

// formatID returns the ID of an entry in Redis. Redis refuses to read after the highest
// possible ID, so that one becomes the one before it.
func formatID(id broadcast.ID) string {
	return idPrefix + strconv.FormatUint(min(id.Seq(), math.MaxUint64-1), 10)
}

// previous returns the ID just before id.
func previous(id broadcast.ID) broadcast.ID { return broadcast.MakeID(id.Epoch(), id.Seq()-1) }

// The names of an entry's fields. Only topic must be there. Fields with other names are
// ignored, so that a later version may add some.
const (
	topicField   = "topic"
	typeField    = "type"
	fromField    = "from"
	dataField    = "data"
	binaryField  = "binary"
	keyField     = "key"
	removedField = "removed"
	firstField   = "first"
	endField     = "end"
	linkField    = "link" // append.lua adds it
)

// encode adds the arguments of append.lua for a message: the number of its fields, their names
// and their values. Empty fields are left out. The arguments point into the message, so that
// they need no memory of their own.
func encode(args []any, m *broadcast.Message) []any {
	count := len(args)
	args = append(args, 0, topicField, &m.Topic)
	if m.Type != "" {
		args = append(args, typeField, &m.Type)
	}
	if m.From != "" {
		args = append(args, fromField, &m.From)
	}
	if len(m.Data) > 0 {
		args = append(args, dataField, m.Data)
	}
	if m.Key != "" {
		args = append(args, keyField, &m.Key)
	}
	for _, mark := range [...]struct {
		name string
		set  bool
	}{{binaryField, m.Binary}, {removedField, m.Removed}, {firstField, m.First}, {endField, m.End}} {
		if mark.set {
			args = append(args, mark.name, "1")
		}
	}
	args[count] = (len(args) - count) / 2
	return args
}

// entry is an entry of the stream.
type entry struct {
	broadcast.Message // only its ID if the entry is not a message
	link              link
}

// decode returns an entry with these fields.
func decode(id broadcast.ID, fields []any) entry {
	e := entry{Message: broadcast.Message{ID: id}}
	for i := 0; i+1 < len(fields); i += 2 {
		value, _ := fields[i+1].(string)
		switch fields[i] {
		case topicField:
			e.Topic = value
		case typeField:
			e.Type = value
		case fromField:
			e.From = value
		case dataField:
			e.Data = []byte(value)
		case keyField:
			e.Key = value
		case binaryField:
			e.Binary = value == "1"
		case removedField:
			e.Removed = value == "1"
		case firstField:
			e.First = value == "1"
		case endField:
			e.End = value == "1"
		case linkField:
			e.link = parseLink(value)
		}
	}
	return e.checked()
}

// checked returns the entry, or if it is not a message only its ID and its link.
func (e entry) checked() entry {
	if e.Topic == "" {
		e.Message = broadcast.Message{ID: e.ID}
	}
	return e
}

// link tells which entry an entry continues. All entries that one Append has added have the
// same tag, which is random; the first of them also has the tag of the entry before it.
//
// A stream that was deleted, restored or moved may have any entry in the place of the one
// that is expected. Its link shows that, without asking Redis for anything else.
type link struct {
	tag      string // empty: there is no link
	first    bool   // the fields below are set
	previous string // the tag of the entry before; empty if it had none, or there was none
	epoch    uint64 // in which it was added
}

func parseLink(text string) link {
	tag, rest, first := strings.Cut(text, " ")
	if !first {
		return link{tag: tag}
	}
	previous, epoch, _ := strings.Cut(rest, " ")
	number, err := strconv.ParseUint(epoch, 16, 64)
	if err != nil {
		return link{}
	}
	return link{tag: tag, first: true, previous: previous, epoch: number}
}

// mark is what the next entry's link is compared with.
type mark struct {
	tag   string // of an entry; empty if it has none, or is not known
	epoch uint64 // in which the entry was added; 0 if that is not known
}

// mark returns the mark of an entry with this link, after one with the mark before.
func (l link) mark(before mark) mark {
	switch {
	case l.first:
		return mark{tag: l.tag, epoch: l.epoch}
	case l.tag != "" && l.tag == before.tag:
		return before
	}
	return mark{tag: l.tag}
}

// continues reports whether an entry with this link surely follows one with a mark. epoch is
// the stream's, and old says that the entry may be of an epoch before that: then it must be the
// same one as that of the entry before. Another one may have begun after the stream had gone
// back.
func (l link) continues(before mark, epoch uint64, old bool) bool {
	switch {
	case l.tag == "" || before.tag == "":
		return false
	case !l.first:
		return l.tag == before.tag
	}
	return l.previous == before.tag && (l.epoch == epoch || old && l.epoch == before.epoch)
}
