package wrappers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/internal/wrappers"
)

type opaque struct{ http.ResponseWriter }

type open struct{ http.ResponseWriter }

func (o open) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func TestFind(t *testing.T) {
	server := httptest.NewRecorder() // a Flusher, and no Hijacker
	for _, test := range []struct {
		name string
		w    http.ResponseWriter
		ok   bool
		last http.ResponseWriter
	}{
		{"itself", server, true, server},
		{"through Unwrap", open{open{server}}, true, server},
		{"not through a wrapper without", open{opaque{server}}, false, opaque{server}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, last, ok := wrappers.Find[http.Flusher](test.w)
			assert.Equal(t, test.ok, ok)
			assert.Equal(t, test.last, last)
			_, _, ok = wrappers.Find[http.Hijacker](test.w)
			assert.False(t, ok)
		})
	}
}

func TestAll(t *testing.T) {
	server := httptest.NewRecorder()
	outer := open{opaque{server}}
	assert.Equal(t, []http.ResponseWriter{outer, opaque{server}}, wrappers.All(outer))
}
