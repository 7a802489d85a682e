package natsjournal

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
)

const (
	topicHeader  = "Fanfare-Topic"
	typeHeader   = "Fanfare-Type"
	fromHeader   = "Fanfare-From"
	binaryHeader = "Fanfare-Binary"
)

// encode turns messages into entries without a subject. Each entry has an ID by which
// the engine recognises it if it is sent again.
func (j *Journal) encode(ms []broadcast.Message) ([]*nats.Msg, error) {
	nonce := rand.Text()
	maxPayload := j.Conn.MaxPayload()
	entries := make([]*nats.Msg, len(ms))
	for i, m := range ms {
		header := nats.Header{
			jetstream.MsgIDHeader: {nonce + "-" + strconv.Itoa(i)},
			topicHeader:           {url.PathEscape(m.Topic)},
		}
		if m.Type != "" {
			header[typeHeader] = []string{url.PathEscape(m.Type)}
		}
		if m.From != "" {
			header[fromHeader] = []string{url.PathEscape(m.From)}
		}
		if m.Binary {
			header[binaryHeader] = []string{"1"}
		}
		entries[i] = &nats.Msg{Header: header, Data: m.Data}
		if size := int64(entries[i].Size()); maxPayload > 0 && size > maxPayload {
			return nil, fmt.Errorf("natsjournal: the message on topic %q has %d bytes with its headers, but the server accepts at most %d: "+
				"raise its max_payload, or publish a reference to the data", m.Topic, size, maxPayload)
		}
	}
	return entries, nil
}

// decode returns the message in an entry, without its ID. If the entry is not a message,
// decode returns the zero Message.
func decode(entry *nats.Msg) broadcast.Message {
	topic, err := url.PathUnescape(entry.Header.Get(topicHeader))
	if err != nil || topic == "" {
		return broadcast.Message{}
	}
	kind, err := url.PathUnescape(entry.Header.Get(typeHeader))
	if err != nil {
		return broadcast.Message{}
	}
	from, err := url.PathUnescape(entry.Header.Get(fromHeader))
	if err != nil {
		return broadcast.Message{}
	}
	return broadcast.Message{
		Topic:  topic,
		Type:   kind,
		From:   from,
		Data:   entry.Data,
		Binary: entry.Header.Get(binaryHeader) != "",
	}
}
