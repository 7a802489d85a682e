package filejournal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"github.com/fanfare-go/fanfare/broadcast"
)

// A record is a message in a segment, in little endian:
//
//	mark      4 bytes   where a reader goes on after damage
//	length    4 bytes   of the body
//	checksum  4 bytes   CRC-32C of length and body
//	body:
//	  sequence  8 bytes
//	  time      8 bytes   when it was appended, in milliseconds since 1970
//	  fields    each a tag (uvarint), a length (uvarint) and bytes
//
// A reader ignores fields whose tag it does not know, so that later versions may add some.
const (
	recordMark   = "\xfaFJ\n"
	recordHeader = len(recordMark) + 4 + 4
	bodyHeader   = 8 + 8

	// maxBody bounds what a reader takes for a length: a larger one is damage.
	maxBody = 64 << 20
)

// Tags of the fields. They are on disk: none is ever given another meaning.
const (
	tagTopic = 1
	tagType  = 2
	tagFrom  = 3
	tagData  = 4
	tagFlags = 5
	tagKey   = 6
)

// Bits of tagFlags. They are on disk like the tags.
const (
	flagBinary = 1 << iota
	flagRemoved
	flagFirst
	flagEnd
	flagLost // in a file of state: up to here events of the topic are lost; without a topic, of any
)

// record is an entry of the log.
type record struct {
	seq  uint64
	time int64 // milliseconds since 1970
	msg  broadcast.Message
	lost bool // it is no message, see flagLost
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// errDamaged says that the bytes are no record, or are not what was written.
	errDamaged = errors.New("filejournal: damaged record")

	// errTooLarge refuses a message that no reader would take for one.
	errTooLarge = errors.New("filejournal: the message has more than 64 MiB")
)

// appendRecord appends the record of a message to b.
func appendRecord(b []byte, r *record) ([]byte, error) {
	m := &r.msg
	if len(m.Topic)+len(m.Type)+len(m.From)+len(m.Data)+len(m.Key) > maxBody-bodyHeader-6*2*binary.MaxVarintLen64 {
		return b, errTooLarge
	}
	start := len(b)
	b = append(b, recordMark...)
	b = append(b, make([]byte, 8)...) // length and checksum
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.time))
	b = appendField(b, tagTopic, m.Topic)
	b = appendField(b, tagType, m.Type)
	b = appendField(b, tagFrom, m.From)
	b = appendField(b, tagData, m.Data)
	flags := flagsOf(m)
	if r.lost {
		flags |= flagLost
	}
	if flags != 0 {
		b = appendField(b, tagFlags, []byte{flags})
	}
	b = appendField(b, tagKey, m.Key)
	sealRecord(b[start:])
	return b, nil
}

// flagsOf returns the bits that are set in a message.
func flagsOf(m *broadcast.Message) (flags byte) {
	if m.Binary {
		flags |= flagBinary
	}
	if m.Removed {
		flags |= flagRemoved
	}
	if m.First {
		flags |= flagFirst
	}
	if m.End {
		flags |= flagEnd
	}
	return flags
}

// sealRecord sets the length and the checksum of a record.
func sealRecord(b []byte) {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-recordHeader))
	binary.LittleEndian.PutUint32(b[8:], checksum(b))
}

// checksum is that of a whole record.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[4:8], castagnoli), castagnoli, b[recordHeader:])
}

func appendField[T string | []byte](b []byte, tag uint64, value T) []byte {
	if len(value) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, tag)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// recordLen returns how long the record is whose header h is.
func recordLen(h []byte) (int, error) {
	n := binary.LittleEndian.Uint32(h[4:])
	if string(h[:len(recordMark)]) != recordMark || n < bodyHeader || n > maxBody {
		return 0, errDamaged
	}
	return recordHeader + int(n), nil
}

// checkRecord verifies a whole record, and returns its sequence and its time.
func checkRecord(b []byte) (seq uint64, time int64, err error) {
	if len(b) < recordHeader+bodyHeader {
		return 0, 0, errDamaged
	}
	if n, err := recordLen(b); err != nil || n != len(b) || binary.LittleEndian.Uint32(b[8:]) != checksum(b) {
		return 0, 0, errDamaged
	}
	body := b[recordHeader:]
	return binary.LittleEndian.Uint64(body), int64(binary.LittleEndian.Uint64(body[8:])), nil
}

// parseRecord parses a whole record. The message does not keep b.
func parseRecord(b []byte) (r record, err error) {
	if r.seq, r.time, err = checkRecord(b); err != nil {
		return record{}, err
	}
	if err := r.parse(b, true); err != nil {
		return record{}, err
	}
	return r, nil
}

// parse sets the fields of the message, but not Data unless that is wanted.
func (r *record) parse(b []byte, data bool) error {
	for rest := b[recordHeader+bodyHeader:]; len(rest) > 0; {
		tag, value, after, ok := parseField(rest)
		if !ok {
			return errDamaged
		}
		if data || tag != tagData {
			r.set(tag, value)
		}
		rest = after
	}
	return nil
}

func parseField(b []byte) (tag uint64, value, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, nil, false
	}
	size, m := binary.Uvarint(b[n:])
	if m <= 0 || size > math.MaxInt32 || int(size) > len(b)-n-m {
		return 0, nil, nil, false
	}
	b = b[n+m:]
	return tag, b[:size], b[size:], true
}

// set sets a field of the message.
func (r *record) set(tag uint64, value []byte) {
	m := &r.msg
	switch tag {
	case tagTopic:
		m.Topic = string(value)
	case tagType:
		m.Type = string(value)
	case tagFrom:
		m.From = string(value)
	case tagData:
		m.Data = append([]byte(nil), value...)
	case tagFlags:
		flags := byte(0)
		if len(value) > 0 {
			flags = value[0]
		}
		m.Binary, m.Removed = flags&flagBinary != 0, flags&flagRemoved != 0
		m.First, m.End = flags&flagFirst != 0, flags&flagEnd != 0
		r.lost = flags&flagLost != 0
	case tagKey:
		m.Key = string(value)
	}
}
