package natsjournal

import (
	"crypto/rand"
	"fmt"
	"net/url"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
)

// The fields of an entry. A field has its name for good, and one that a node does not know is
// ignored, so that nodes of several versions share a stream.
const (
	topicHeader   = "Fanfare-Topic"
	typeHeader    = "Fanfare-Type"
	fromHeader    = "Fanfare-From"
	binaryHeader  = "Fanfare-Binary"
	keyHeader     = "Fanfare-Key"
	removedHeader = "Fanfare-Removed"
	firstHeader   = "Fanfare-First"
	endHeader     = "Fanfare-End"

	// headerRoom is more than the names of all headers take, with the ID of an entry.
	headerRoom = 512
)

// encode turns a message into an entry without a subject. The engine recognises the entry by
// its ID if it is sent again.
func encode(m broadcast.Message, id string, maxPayload int64) (*nats.Msg, error) {
	header := nats.Header{
		jetstream.MsgIDHeader: {id},
		topicHeader:           {url.PathEscape(m.Topic)},
	}
	if m.Type != "" {
		header[typeHeader] = []string{url.PathEscape(m.Type)}
	}
	if m.From != "" {
		header[fromHeader] = []string{url.PathEscape(m.From)}
	}
	if m.Key != "" {
		header[keyHeader] = []string{url.PathEscape(m.Key)}
	}
	for _, mark := range [...]struct {
		name string
		set  bool
	}{{binaryHeader, m.Binary}, {removedHeader, m.Removed}, {firstHeader, m.First}, {endHeader, m.End}} {
		if mark.set {
			header[mark.name] = []string{"1"}
		}
	}
	entry := &nats.Msg{Header: header, Data: m.Data}
	if most := len(m.Data) + 3*(len(m.Topic)+len(m.Type)+len(m.Key)+len(m.From)) + headerRoom; int64(most) <= maxPayload {
		return entry, nil // Size would encode the headers
	}
	if size := int64(entry.Size()); maxPayload > 0 && size > maxPayload {
		return nil, fmt.Errorf("natsjournal: the message on topic %q has %d bytes with its headers, but the server accepts at most %d: "+
			"raise its max_payload, or publish a reference to the data", m.Topic, size, maxPayload)
	}
	return entry, nil
}

// entryIDs returns what makes up the IDs of n entries, which no other entries have, of this
// node or of another: a text, and the first of n numbers.
func (j *Journal) entryIDs(n int) (nonce string, first uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.nonce == "" {
		j.nonce = rand.Text()
	}
	first = j.entries
	j.entries += uint64(n)
	return j.nonce, first
}

// decode returns the message in an entry, without its ID. If the entry is not a message,
// decode returns the zero Message.
func decode(entry *nats.Msg) broadcast.Message {
	topic, err := url.PathUnescape(field(entry, topicHeader))
	if err != nil || topic == "" {
		return broadcast.Message{}
	}
	kind, err := url.PathUnescape(field(entry, typeHeader))
	if err != nil {
		return broadcast.Message{}
	}
	from, err := url.PathUnescape(field(entry, fromHeader))
	if err != nil {
		return broadcast.Message{}
	}
	key, err := url.PathUnescape(field(entry, keyHeader))
	if err != nil {
		return broadcast.Message{}
	}
	return broadcast.Message{
		Topic:   topic,
		Type:    kind,
		Key:     key,
		From:    from,
		Data:    entry.Data,
		Binary:  field(entry, binaryHeader) != "",
		Removed: field(entry, removedHeader) != "",
		First:   field(entry, firstHeader) != "",
		End:     field(entry, endHeader) != "",
	}
}

// field returns a header, whose name is written as encode writes it.
func field(entry *nats.Msg, name string) string {
	if values := entry.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
