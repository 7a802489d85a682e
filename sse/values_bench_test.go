package sse_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

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
	encoded := 0
	h.Encode = func(m *broadcast.Message) (sse.Event, bool) {
		encoded++
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
	encoded = 0
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/?poll=1", nil))
		if w.Body.Len() < 10_000*30 {
			b.Fatal("the beginning is short")
		}
	}
	b.ReportMetric(float64(encoded)/float64(b.N), "encodings/op")
}
