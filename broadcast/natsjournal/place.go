package natsjournal

import (
	"strconv"
	"strings"
	"time"
)

// place says where an entry stands. The engine sends it with the entry.
type place struct {
	streamSeq   uint64
	consumerSeq uint64 // how many entries the engine has sent to the consumer, this one included
	storedAt    time.Time
}

// parsePlace reads the subject on which an entry could be acknowledged, which is
//
//	$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>
//
// or has the domain and a hash of the account before the stream, and then may have more at its
// end. It does what nats.Msg.Metadata does, without allocating.
func parsePlace(subject string) (p place, ok bool) {
	rest, ok := strings.CutPrefix(subject, "$JS.ACK.")
	if !ok {
		return place{}, false
	}
	skip := 3 // the stream, the consumer, the deliveries
	if strings.Count(rest, ".") > 6 {
		skip += 2
	}
	for range skip {
		if _, rest, ok = strings.Cut(rest, "."); !ok {
			return place{}, false
		}
	}
	var numbers [3]uint64
	for i := range numbers {
		var number string
		if number, rest, ok = strings.Cut(rest, "."); !ok {
			return place{}, false
		}
		n, err := strconv.ParseUint(number, 10, 63)
		if err != nil {
			return place{}, false
		}
		numbers[i] = n
	}
	return place{numbers[0], numbers[1], time.Unix(0, int64(numbers[2])).UTC()}, true
}
