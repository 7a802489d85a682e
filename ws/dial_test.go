package ws_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// A response that is not an upgrade is a HandshakeError.
func TestDialReturnsTheStatusOfAResponse(t *testing.T) {
	for _, status := range []int{200, 403, 404, 503} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
		_, err := ws.Dial(t.Context(), server.URL, nil)
		var refused *ws.HandshakeError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, status, refused.Status)
		require.EqualError(t, err, fmt.Sprintf("ws: handshake: the server has not upgraded the connection (status %d)", status))
		http.DefaultClient.CloseIdleConnections()
		server.Close()
	}
	_, err := ws.Dial(t.Context(), "ftp://example.com", nil)
	require.Error(t, err)
}
