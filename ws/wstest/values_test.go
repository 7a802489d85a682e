package wstest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// Values are those of the Hub once a connection has applied all that came.
func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := &ws.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"prices"}, Beginning: true}, nil
		}}
		set := func(key, value string) {
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "prices", Key: key, Data: []byte(value), Removed: value == ""})
			require.NoError(t, err)
		}
		set("A", "1")
		set("B", "1")
		conn := wstest.Dial(t, h, httptest.NewRequest("GET", "/", nil))
		values := wstest.Values{}
		apply := func(n int) {
			for range n {
				_, data, err := conn.Read(t.Context())
				require.NoError(t, err)
				require.NoError(t, values.Apply(data))
			}
		}
		apply(4) // the notice of the beginning, two values, the position
		require.Equal(t, wstest.Values{"prices": {"A": "1", "B": "1"}}, values)
		set("A", "")
		set("B", "2")
		apply(2)
		require.Equal(t, wstest.Values{"prices": {"B": "2"}}, values)
		require.EqualError(t, values.Apply([]byte("42")), `wstest: "42" is no envelope: a ws.Handler with an Encode, such as ws.Raw, sends none`)
		require.NoError(t, conn.CloseNow())
		synctest.Wait()
	})
}
