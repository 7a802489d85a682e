package main

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// TestHello runs the program on its port, and connects to it over both transports.
func TestHello(t *testing.T) {
	const address = "localhost:8080"
	port, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("the port is in use: %v", err)
	}
	port.Close()
	go main() // ends with the test's process
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)

	conn, err := ws.Dial(t.Context(), "ws://"+address+"/ws", nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	response, err := http.Get("http://" + address + "/events")
	require.NoError(t, err)
	defer response.Body.Close()

	var message struct{ ID, Data string }
	event, err := sse.NewReader(response.Body).Read()
	require.NoError(t, err)
	for message.ID != event.ID {
		require.NoError(t, conn.ReadJSON(t.Context(), &message))
	}
	assert.Equal(t, string(event.Data), message.Data, "the same message with the same ID")
	_, err = time.Parse(time.TimeOnly, message.Data)
	assert.NoError(t, err)
}
