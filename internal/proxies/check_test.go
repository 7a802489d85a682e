package proxies_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/middleware"
)

// The command fanfare check finds no fault through nginx as recommended, and finds what a
// configuration breaks.
func TestCheckThroughNginx(t *testing.T) {
	nginx := installed(t, programs[0])
	command := buildCheck(t)
	for _, test := range []struct {
		name         string
		edits        []edit
		scheme, path string
		fault        string // empty: none
	}{
		{"as recommended", nil, "http://", "/quick/events", ""},
		{"a WebSocket, as recommended", nil, "ws://", "/quick/ws", ""},
		{"gzip for all text", nginx.gzip, "http://", "/quick/events", ""},
		{"buffering", nginx.buffer, "http://", "/mute/events", "buffering"},
		{"an idle timeout and no heartbeats", nginx.idle, "http://", "/mute/events", "heartbeat"},
		{"without the Host line", []edit{{"proxy_set_header Host $http_host;", ""}}, "ws://", "/quick/ws", "origin"},
		{"without the upgrade", []edit{{"proxy_set_header Upgrade $http_upgrade;", ""}}, "ws://", "/quick/ws", "handshake"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, nil, new(middleware.Drain))
			proxy := start(t, nginx, b.address, b.address, test.edits)
			out, err := exec.Command(command, "check", "-wait", "3s", test.scheme+proxy.plain+test.path).CombinedOutput()
			if test.fault == "" {
				assert.NoError(t, err, "%s", out)
				assert.Contains(t, string(out), "no fault found")
				return
			}
			var failed *exec.ExitError
			require.ErrorAs(t, err, &failed, "%s", out)
			assert.Equal(t, 1, failed.ExitCode())
			assert.Contains(t, string(out), "FAULT  "+test.fault)
		})
	}
}
