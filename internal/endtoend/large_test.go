package endtoend_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// The largest message that a Hub accepts by default is accepted by each client of the kit by
// default, in each wire form, and does not end it.
func TestLargestMessageReachesEveryClient(t *testing.T) {
	for _, test := range []struct {
		name   string
		unit   string // of which the data consists
		binary bool
	}{
		{"letters", "x", false},
		{"quotes, which are escaped", `"`, false},
		{"control characters, which JSON makes six times as long", "\x01", false},
		{"lines, each of which is a field of an event", "\n", false},
		{"lines that end with CR LF", "\r\n", false},
		{"runes", "日", false},
		{"bytes, in base64", "\xff", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			message := func(units int) broadcast.Message {
				return broadcast.Message{
					Topic: "a" + strings.Repeat("\x01", 254), Type: strings.Repeat("\x02", 255),
					Data: bytes.Repeat([]byte(test.unit), units), Binary: test.binary,
				}
			}
			most := sort.Search(2<<20, func(units int) bool {
				_, err := new(broadcast.Hub).Publish(t.Context(), message(units+1))
				return err != nil
			})
			hub := &broadcast.Hub{}
			position, err := hub.Position(t.Context())
			require.NoError(t, err)
			_, err = hub.Publish(t.Context(), message(most+1))
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			require.ErrorContains(t, err, "Hub.MaxMessage is 1048576")
			m := message(most)
			_, err = hub.Publish(t.Context(), m)
			require.NoError(t, err)

			mux := http.NewServeMux()
			mux.Handle("/sse", &sse.Handler{Broadcaster: hub, Topics: []string{m.Topic}})
			mux.Handle("/ws", &ws.Handler{Broadcaster: hub, Topics: []string{m.Topic}})
			server := httptest.NewServer(mux)
			defer server.Close()
			quiet := slog.New(slog.DiscardHandler)

			client := ws.Client{URL: server.URL + "/ws", After: position, Logger: quiet}
			for got, err := range client.Messages(t.Context()) {
				require.NoError(t, err)
				require.True(t, bytes.Equal(m.Data, got.Data), "a WebSocket has other data")
				break
			}
			for _, query := range []string{"?", "?envelope=1&", "?poll=1&"} {
				r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/sse"+query+"lastEventId="+position.String(), nil)
				require.NoError(t, err)
				events := &sse.Client{Logger: quiet}
				for e, err := range events.Events(r) {
					require.NoError(t, err, query)
					data, want := string(e.Data), string(m.Data)
					if query == "?envelope=1&" {
						var envelope struct{ Topic, Data string }
						require.NoError(t, json.Unmarshal(e.Data, &envelope))
						if envelope.Topic == "" {
							continue
						}
						data = envelope.Data
					} else if !test.binary {
						want = strings.ReplaceAll(want, "\r\n", "\n") // as the lines of an event end
					}
					if test.binary {
						want = base64.StdEncoding.EncodeToString(m.Data)
					}
					require.True(t, want == data, "an event of %s has other data", query)
					break
				}
			}
		})
	}
}

// A client whose limit is reached says which field to raise.
func TestClientsNameTheLimitThatIsReached(t *testing.T) {
	hub := &broadcast.Hub{MaxMessage: -1}
	position, err := hub.Position(t.Context())
	require.NoError(t, err)
	_, err = hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: make([]byte, 1<<20), Binary: true})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/sse", &sse.Handler{Broadcaster: hub, Topics: []string{"a"}})
	mux.Handle("/ws", &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(mux)
	defer server.Close()

	client := ws.Client{URL: server.URL + "/ws", After: position}
	for _, err := range client.Messages(t.Context()) {
		require.ErrorContains(t, err, "Client.Dial.Options.MaxMessage")
		require.Equal(t, ws.StatusMessageTooBig, ws.CloseStatus(err))
	}
	conn, err := ws.Dial(t.Context(), server.URL+"/ws?lastEventId="+position.String(), nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	for err == nil {
		_, _, err = conn.Read(t.Context())
	}
	require.ErrorContains(t, err, "raise Options.MaxMessage")
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/sse?lastEventId="+position.String(), nil)
	require.NoError(t, err)
	for _, err := range new(sse.Client).Events(r) {
		require.ErrorIs(t, err, sse.ErrTooLarge)
		require.ErrorContains(t, err, "raise Client.MaxEvent")
	}
}
