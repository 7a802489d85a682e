package ssetest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// Values are those of the Hub once a stream has applied all that came.
func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"prices"}, Beginning: true}, nil
		}}
		set := func(key, value string) {
			_, err := hub.Publish(context.Background(), broadcast.Message{Topic: "prices", Key: key, Data: []byte(value), Removed: value == ""})
			require.NoError(t, err)
		}
		set("A", "1")
		set("B", "1")
		stream := ssetest.Connect(t, h, httptest.NewRequest("GET", "/?envelope=1", nil))
		values := ssetest.Values{}
		apply := func(n int) {
			for range n {
				require.NoError(t, values.Apply(stream.Next()))
			}
		}
		apply(4) // the notice of the beginning, two values, the position
		require.Equal(t, ssetest.Values{"prices": {"A": "1", "B": "1"}}, values)
		stream.Close()
		set("A", "")
		set("B", "2")
		set("C", "3")
		stream.Reconnect()
		apply(4)
		require.Equal(t, ssetest.Values{"prices": {"B": "2", "C": "3"}}, values)
	})
}

// A value that a test lets the stream send comes, also if the next one replaces it.
func TestWaitBetweenTwoValuesOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"prices"}, Beginning: true}, nil
		}}
		set := func(value string) {
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "prices", Key: "A", Data: []byte(value)})
			require.NoError(t, err)
		}
		page := ssetest.Connect(t, h, httptest.NewRequest("GET", "/", nil))
		require.Equal(t, "begin", page.Next().Type, "of an empty topic")
		for i := range 10 {
			set(fmt.Sprint(i))
			synctest.Wait()
		}
		for i := range 10 {
			require.Equal(t, fmt.Sprint(i), string(page.Next().Data))
		}
		late := ssetest.Connect(t, h, httptest.NewRequest("GET", "/", nil))
		require.Equal(t, "begin", late.Next().Type)
		require.Equal(t, "9", string(late.Next().Data))
		late.Quiet(time.Minute)
	})
}

// An event of a stream without envelopes is an error, which says what the request lacks.
func TestValuesNeedEnvelopes(t *testing.T) {
	for _, data := range []string{`42`, `{"symbol":"A","price":1}`, `{"data":1}`, `It rains`, ``} {
		values := ssetest.Values{}
		err := values.Apply(sse.Event{Data: []byte(data)})
		require.EqualError(t, err, fmt.Sprintf("ssetest: %q is no envelope: request the stream with envelope=1", data))
		require.Empty(t, values)
	}
	err := ssetest.Values{}.Apply(sse.Event{Data: []byte(strings.Repeat("x", 1000))})
	require.EqualError(t, err, fmt.Sprintf("ssetest: %q is no envelope: request the stream with envelope=1", strings.Repeat("x", 80)))
}

// A page that shows state clears its map where a beginning tells it to.
func ExampleValues() {
	values := ssetest.Values{"prices": {"A": "1"}}
	for _, data := range []string{
		`{"begin":"1-0"}`,
		`{"topic":"prices","key":"B","data":"2"}`,
		`{"ready":"1f-2a"}`,
	} {
		if err := values.Apply(sse.Event{Data: []byte(data)}); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(values)
	// Output: map[prices:map[B:2]]
}
