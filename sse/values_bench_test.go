package sse_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// What it takes to begin with 10,000 values, for one of many clients.
func BenchmarkBeginning(b *testing.B) {
	hub := new(broadcast.Hub)
	for i := range 10_000 {
		if _, err := hub.Publish(b.Context(), broadcast.Message{Topic: "a", Key: fmt.Sprint(i), Data: []byte(`{"symbol":"AAPL","price":42.17}`)}); err != nil {
			b.Fatal(err)
		}
	}
	h := beginning(hub)
	var encoded atomic.Int64
	h.Encode = func(m *broadcast.Message) (sse.Event, bool) {
		encoded.Add(1)
		return sse.Event{Type: m.Type, Data: m.Data}, true
	}
	open := httptest.NewServer(h) // a stream that stays, as that of another client does
	defer open.Close()
	defer hub.Close()
	response, err := http.Get(open.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	begun, line := "id: "+position(b, hub), bufio.NewScanner(response.Body)
	for line.Scan() && line.Text() != begun {
	}
	require.Equal(b, begun, line.Text(), "the stream has not begun")
	encoded.Store(0)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/?poll=1", nil))
		if w.Body.Len() < 10_000*30 {
			b.Fatal("the beginning is short")
		}
	}
	b.ReportMetric(float64(encoded.Load())/float64(b.N), "encodings/op")
}
