package broadcasttest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// publish publishes one message.
func publish(t *testing.T, b broadcast.Broadcaster, topic, data string) broadcast.ID {
	t.Helper()
	id, err := b.Publish(background(t), broadcast.Message{Topic: topic, Data: []byte(data)})
	require.NoError(t, err, "Publish")
	require.Greater(t, id.Epoch(), uint64(1), "the epoch of a published message")
	return id
}

// tryPublish is publish for goroutines other than the test's, which must not call FailNow.
func tryPublish(t *testing.T, b broadcast.Broadcaster, topic, data string) (broadcast.ID, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := b.Publish(ctx, broadcast.Message{Topic: topic, Data: []byte(data)})
	return id, assert.NoError(t, err, "Publish")
}

// publishMany publishes the messages "<topic> 0" to "<topic> n-1".
func publishMany(t *testing.T, b broadcast.Broadcaster, topic string, n int) []broadcast.ID {
	t.Helper()
	ids := make([]broadcast.ID, n)
	for i := range ids {
		ids[i] = publish(t, b, topic, fmt.Sprint(topic, " ", i))
	}
	return ids
}

// many returns the texts of publishMany with the numbers from from to to-1.
func many(topic string, from, to int) []string {
	texts := []string{}
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint(topic, " ", i))
	}
	return texts
}

// texts returns the Data of messages.
func texts(ms []*broadcast.Message) []string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = string(m.Data)
	}
	return texts
}

// arrive waits until a subscription gets the message with an ID.
func arrive(t *testing.T, b broadcast.Broadcaster, topic string, id broadcast.ID) {
	t.Helper()
	before := broadcast.MakeID(id.Epoch(), id.Seq()-1)
	s := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{topic}, After: before})
	s.until(id)
	s.close()
}
