package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// TestMain makes the test's binary run main in the processes that the test starts.
func TestMain(m *testing.M) {
	if os.Getenv("ROLLING_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestRestartsLoseNothing(t *testing.T) {
	s := scenario{clients: 20, restarts: 2, rate: 50, spread: time.Second}
	require.NoError(t, s.run(t.Context()))
}

// The page shows that restarts lose nothing, while they happen.
func TestThePageShowsWhatTheClientsReceive(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o, err := scenario{clients: 10, rate: 50, spread: time.Second}.open(ctx)
	require.NoError(t, err)
	defer o.close()
	w := newWatch(o)
	routes := httptest.NewServer(w.routes(ctx))
	defer routes.Close()
	go w.publish(ctx)
	response, err := http.Get(routes.URL + "/events")
	require.NoError(t, err)
	defer response.Body.Close()
	stream := sse.NewReader(response.Body)
	next := func() (s state) {
		for {
			e, err := stream.Read()
			require.NoError(t, err)
			if e.Type == "state" {
				require.NoError(t, json.Unmarshal(e.Data, &s))
				require.Equal(t, []any{0, 0, ""}, []any{s.Lost, s.Twice, s.Error})
				return s
			}
		}
	}
	restart := func() int {
		response, err := http.Post(routes.URL+"/restart", "", nil)
		require.NoError(t, err)
		response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, http.StatusAccepted, restart())
	require.Equal(t, http.StatusConflict, restart(), "one at a time")
	var moved, away bool
	s := next()
	for ; s.Restarts < 2 || s.Restarting; s = next() {
		moved = moved || !strings.Contains(s.Clients, "0")
		away = away || strings.Contains(s.Clients, "-")
	}
	require.True(t, moved, "all clients were on the other server")
	require.True(t, away)
	for due := s.Due; s.Received < due || strings.Contains(s.Clients, "-"); s = next() {
	}
}
