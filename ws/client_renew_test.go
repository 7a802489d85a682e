package ws_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// A Client renews its stream with Send, again and again over one connection, and loses nothing. A
// token that is refused is yielded.
func TestClientRenewsItsStream(t *testing.T) {
	hub := new(broadcast.Hub)
	h := renewable(hub)
	requests := 0
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { requests++; h.ServeHTTP(w, r) }), func(t *testing.T, n *network) {
		c := n.follow("/")
		var got []string
		var refused *ws.TokenError
		go func() {
			for range 5 {
				assert.NoError(t, c.Send(t.Context(), ws.Text, []byte(`{"token":"ann/60"}`)))
				synctest.Wait()
				say(t, hub, "a", "x")
				time.Sleep(50 * time.Second)
			}
			assert.NoError(t, c.Send(t.Context(), ws.Text, []byte(`{"token":"bob/60"}`)))
			synctest.Wait()
			say(t, hub, "a", "last")
		}()
		for m, err := range c.Messages(t.Context()) {
			if errors.As(err, &refused) {
				require.Equal(t, 403, refused.Status)
				require.EqualError(t, err, "ws: the server has refused a token (status 403): the stream goes on until it expires")
				continue
			}
			require.NoError(t, err)
			if got = append(got, string(m.Data)); string(m.Data) == "last" {
				break
			}
		}
		require.Equal(t, append(slices.Repeat([]string{"x"}, 5), "last"), got)
		require.NotNil(t, refused)
		require.Equal(t, 1, requests)
	})
}

// The answer to a token does not move the position: what is cut after it resumes after the last
// message.
func TestRenewalDoesNotMoveThePosition(t *testing.T) {
	serve(t, sends(`{"ready":"1f-2"}`, `{"renewed":"1f-9","expires":60}`, `{"topic":"a","data":"x"}`), func(t *testing.T, n *network) {
		c := n.follow("/")
		for _, err := range c.Messages(t.Context()) {
			require.NoError(t, err)
			break
		}
		require.Equal(t, "1f-2", c.Position().String())
	})
}

// Once a connection has begun with an envelope, the notices of a later version are ignored: they
// are JSON objects. What is no JSON object is still final.
func TestClientIgnoresUnknownNotices(t *testing.T) {
	for _, test := range []struct {
		texts []string
		want  string // the final error; "": it yields the message
	}{
		{[]string{`{"ready":"1f-2"}`, `{"hello":"1f-3"}`, `{}`, ` {"hello":1,"world":{"a":[]}}`, `{"id":"1f-4","topic":"a","data":"x"}`}, ""},
		{[]string{`{"topic":"a","data":"x"}`}, ""},
		{[]string{`{"hello":"1f-3"}`, `{"ready":"1f-2"}`}, "envelopes"},
		{[]string{`{"ready":"1f-2"}`, `42`}, "envelopes"},
		{[]string{`{"ready":"1f-2"}`, `null`}, "envelopes"},
		{[]string{`{"ready":"1f-2"}`, `hello`}, "envelopes"},
		{[]string{`null`}, "envelopes"},
	} {
		serve(t, sends(test.texts...), func(t *testing.T, n *network) {
			for m, err := range n.follow("/").Messages(t.Context()) {
				if test.want != "" {
					require.ErrorContains(t, err, test.want)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, "x", string(m.Data))
				break
			}
		})
	}
}
