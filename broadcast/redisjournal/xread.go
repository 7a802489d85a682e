package redisjournal

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

// xread returns up to count entries after an ID with one XREAD, which waits for the first of
// them. It returns none after the time that it may wait. The IDs get the epoch of after; only
// the links of the entries tell whether they are of that epoch.
func (t *tail) xread(ctx context.Context, after broadcast.ID, count int, wait time.Duration) ([]entry, int, error) {
	cmd := redis.NewRawCmd(ctx, "xread", "count", count, "block", max(wait.Milliseconds(), 1), "streams", t.journal.key(), formatID(after))
	if err := t.client.Process(ctx, cmd); err != nil {
		return nil, 0, t.journal.wrap(err)
	}
	reply := cmd.Val()
	entries, err := t.parser.parse(after.Epoch(), reply)
	return entries, len(reply), t.journal.wrap(err)
}

// parser parses replies of XREAD. It allocates only what the entries keep: a tail that falls
// behind has thousands of them to read.
type parser struct {
	entries []entry           // reused
	names   map[string]string // topics and types, which are few
}

// maxNames is how many topics and types a parser remembers.
const maxNames = 1024

var errReply = errors.New("the reply of XREAD is not as documented")

// engineError is an error that Redis has replied.
type engineError string

func (e engineError) Error() string { return string(e) }

// RedisError makes it a [redis.Error].
func (engineError) RedisError() {}

// parse returns the entries in a reply, which the next call overwrites.
func (p *parser) parse(epoch uint64, reply []byte) ([]entry, error) {
	clear(p.entries) // so that it keeps no messages
	p.entries = p.entries[:0]
	r := reader{rest: reply}
	kind, n := r.header()
	switch {
	case kind == '-' || kind == '!':
		return nil, engineError(r.text)
	case n < 0 && r.err == nil:
		return nil, nil // no entry came
	case kind == '*' && n == 1: // a list of pairs: RESP2
		r.list(2)
	case kind == '%' && n == 1: // a map: RESP3
	default:
		return nil, errReply
	}
	r.bulk() // the key
	for range r.list(-1) {
		e := p.entry(epoch, &r)
		if r.err != nil {
			return nil, r.err
		}
		p.entries = append(p.entries, e.checked())
	}
	return p.entries, r.err
}

func (p *parser) entry(epoch uint64, r *reader) (e entry) {
	r.list(2)
	seq, _ := parseSequence(string(r.bulk())) // a foreign entry gets 0, which continues nothing
	e.ID = broadcast.MakeID(epoch, seq)
	for n := r.list(-1); n > 1; n -= 2 {
		name, value := r.bulk(), r.bulk()
		switch string(name) {
		case topicField:
			e.Topic = p.name(value)
		case typeField:
			e.Type = p.name(value)
		case fromField:
			e.From = string(value)
		case dataField:
			e.Data = bytes.Clone(value)
		case keyField:
			e.Key = string(value)
		case binaryField:
			e.Binary = string(value) == "1"
		case removedField:
			e.Removed = string(value) == "1"
		case firstField:
			e.First = string(value) == "1"
		case endField:
			e.End = string(value) == "1"
		case linkField:
			e.link = parseLink(string(value))
		}
	}
	return e
}

// name returns a topic or type, once for all messages that have it.
func (p *parser) name(value []byte) string {
	if name, ok := p.names[string(value)]; ok {
		return name
	}
	if p.names == nil || len(p.names) == maxNames {
		p.names = make(map[string]string)
	}
	name := string(value)
	p.names[name] = name
	return name
}

// reader reads a reply in the protocol of Redis. After an error it reads nothing more.
type reader struct {
	rest []byte
	text []byte // of the last header
	err  error
}

// header reads a line: a type, and a number or a text. The number is -1 for null.
func (r *reader) header() (kind byte, n int) {
	line, rest, ok := bytes.Cut(r.rest, []byte("\r\n"))
	if !ok || len(line) == 0 {
		r.fail()
		return 0, 0
	}
	r.rest = rest
	kind, r.text = line[0], line[1:]
	switch kind {
	case '_':
		return kind, -1
	case '*', '%', '$':
		var err error
		if n, err = strconv.Atoi(string(r.text)); err != nil {
			r.fail()
		}
	}
	return kind, n
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errReply
	}
	r.rest = nil
}

// list reads the header of a list with so many values, or with any number of them if that is
// -1. It returns how many there are.
func (r *reader) list(want int) int {
	kind, n := r.header()
	if kind != '*' || want >= 0 && n != want || n > len(r.rest) {
		r.fail()
		return 0
	}
	return max(n, 0)
}

// bulk reads a string.
func (r *reader) bulk() []byte {
	kind, n := r.header()
	if kind != '$' || n < 0 || n+2 > len(r.rest) {
		r.fail()
		return nil
	}
	value := r.rest[:n]
	r.rest = r.rest[n+2:]
	return value
}
