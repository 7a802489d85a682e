package ssetest_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// news is a stream of one topic, and how to publish on it.
type news struct {
	broadcast.Hub
	sse.Handler
}

func (n *news) publish(t testing.TB, text string) {
	t.Helper()
	_, err := n.Publish(context.Background(), broadcast.Message{Topic: "news", Type: "tick", Data: []byte(text)})
	require.NoError(t, err)
}

func newNews() *news {
	n := &news{}
	n.Broadcaster, n.Topics = &n.Hub, []string{"news"}
	return n
}

func get() *http.Request { return httptest.NewRequest("GET", "/", nil) }

var quietLog = slog.New(slog.DiscardHandler)

func target() http.Handler {
	return &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Logger: quietLog}
}
