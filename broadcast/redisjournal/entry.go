package redisjournal

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/fanfare-go/fanfare/broadcast"
)

// An entry's ID in Redis is two numbers, of which the first is for the time that Redis
// would put there. Here it is always 0, and Redis lets the second rise by one: the
// sequence.
const prefix = "0-"

// id returns the ID of an entry, as it stands in a reply.
func (j *Journal) id(epoch uint64, entry any) (broadcast.ID, error) {
	text, _ := entry.(string)
	number, ok := strings.CutPrefix(text, prefix)
	seq, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return broadcast.ID{}, j.explain(fmt.Errorf("%q is not the ID of an entry of a journal", text))
	}
	return broadcast.MakeID(epoch, seq), nil
}

// entryID returns what Redis calls an ID. Behind the last one that it has it would
// refuse to look.
func entryID(id broadcast.ID) string {
	return prefix + strconv.FormatUint(min(id.Seq(), math.MaxUint64-1), 10)
}

func before(id broadcast.ID) broadcast.ID { return broadcast.MakeID(id.Epoch(), id.Seq()-1) }
