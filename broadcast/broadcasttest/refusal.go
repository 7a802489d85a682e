package broadcasttest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// invalidNames are invalid as topics and as types.
var invalidNames = []struct{ name, text string }{
	{"CR", "a\rb"},
	{"LF", "a\nb"},
	{"CR LF at the end", "a\r\n"},
	{"NUL", "a\x00"},
	{"a byte too long", strings.Repeat("x", 256)},
	{"invalid UTF-8", "a\xff"},
	{"half a character", "日"[:2]},
	{"a surrogate", "\xed\xa0\x80"},
}

func testInvalidMessage(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	type test struct {
		name string
		msg  broadcast.Message
	}
	tests := []test{
		{"empty topic", broadcast.Message{Data: []byte("x")}},
		{"removed without a key", broadcast.Message{Topic: "a", Removed: true}},
		{"first with a key", broadcast.Message{Topic: "a", Key: "x", First: true}},
		{"end with a key", broadcast.Message{Topic: "a", Key: "x", End: true}},
		{"data is not UTF-8", broadcast.Message{Topic: "a", Data: []byte("x\xff")}},
	}
	for _, typ := range []string{"gap", "begin", "ended", "open", "error", "statechange"} {
		tests = append(tests, test{"reserved type " + typ, broadcast.Message{Topic: "a", Type: typ, Data: []byte("x")}})
	}
	for _, invalid := range invalidNames {
		tests = append(tests,
			test{"topic: " + invalid.name, broadcast.Message{Topic: invalid.text}},
			test{"type: " + invalid.name, broadcast.Message{Topic: "a", Type: invalid.text}},
			test{"key: " + invalid.name, broadcast.Message{Topic: "a", Key: invalid.text}})
	}
	for _, test := range tests {
		id, err := b.Publish(background(t), test.msg)
		assert.ErrorIs(t, err, broadcast.ErrNotPublished, test.name)
		assert.True(t, id.IsZero(), "the ID of a refused message: %s", test.name)
	}
	s.exactly(publish(t, b, "a", "valid"), []string{"valid"})
}

func testInvalidTopics(t *testing.T, c Config) {
	b := c.Open(t)
	names := make([]string, 1001)
	for i := range names {
		names[i] = fmt.Sprint("topic ", i)
	}
	type test struct {
		name   string
		topics []string
	}
	tests := []test{
		{"none", nil},
		{"an empty list", []string{}},
		{"1,001", names},
		{"an empty one", []string{""}},
		{"an empty one among others", []string{"a", "", "b"}},
	}
	for _, invalid := range invalidNames {
		tests = append(tests, test{invalid.name, []string{"a", invalid.text}})
	}
	for _, test := range tests {
		sub, err := b.Subscribe(background(t), broadcast.SubscribeOptions{Topics: test.topics})
		if !assert.Error(t, err, test.name) {
			sub.Close()
			continue
		}
		assert.Nil(t, sub, test.name)
		assert.NotErrorIs(t, err, broadcast.ErrClosed, test.name)
	}
	s := listen(t, b, names[:1000]...)
	s.exactly(publish(t, b, names[999], "x"), []string{"x"})
}

func testEndedContext(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.Publish(ctx, broadcast.Message{Topic: "a", Data: []byte("x")})
	require.ErrorIs(t, err, context.Canceled, "the error of Publish")
	require.ErrorIs(t, err, broadcast.ErrNotPublished, "the error of Publish")
	_, err = b.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{"a"}})
	require.ErrorIs(t, err, context.Canceled, "the error of Subscribe")
	s.exactly(publish(t, b, "a", "y"), []string{"y"})
}

func testContextOfTheCall(t *testing.T, c Config) {
	b := c.Open(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	notified := make(chan struct{}, 1)
	sub, err := b.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{"a"}, Notify: func() {
		select {
		case notified <- struct{}{}:
		default:
		}
	}})
	require.NoError(t, err)
	s := &stream{t: t, sub: sub, begin: sub.Position(), notified: notified}
	defer s.close()
	s.empty()
	cancel()
	s.exactly(publish(t, b, "a", "x"), []string{"x"})
	s.exactly(publish(t, b, "a", "y"), []string{"y"})
}
