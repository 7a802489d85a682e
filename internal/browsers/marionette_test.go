package browsers_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// marionette speaks WebDriver as Firefox does without geckodriver, which Debian does not have:
// each message is its length, a colon and JSON.
type marionette struct {
	conn   net.Conn
	reader *bufio.Reader
	last   int
}

func startFirefox(e *engine) (commander, error) {
	profile := filepath.Join(e.folder, "profile")
	if err := os.Mkdir(profile, 0o700); err != nil {
		return nil, err
	}
	prefs := "user_pref(\"marionette.port\", 0);\n" // it writes the port that it takes into a file
	for name, value := range map[string]string{
		"browser.sessionhistory.max_total_viewers": "8", "toolkit.telemetry.enabled": "false", "datareporting.policy.dataSubmissionEnabled": "false",
		"browser.shell.checkDefaultBrowser": "false", "app.update.enabled": "false", "network.captive-portal-service.enabled": "false",
		"network.connectivity-service.enabled": "false", "browser.startup.homepage_override.mstone": `"ignore"`, "app.normandy.enabled": "false",
		"browser.tabs.unloadOnLowMemory": "false", "services.settings.server": `"http://127.0.0.1:9"`, "browser.aboutwelcome.enabled": "false",
		"browser.newtabpage.enabled": "false", "browser.newtab.preload": "false", "browser.startup.page": "0", "browser.startup.homepage": `"about:blank"`,
		"termsofuse.bypassNotification": "true", "browser.safebrowsing.downloads.remote.enabled": "false",
	} {
		prefs += fmt.Sprintf("user_pref(%q, %s);\n", name, value)
	}
	// A window may be as narrow as a phone.
	prefs += "user_pref(\"toolkit.legacyUserProfileCustomizations.stylesheets\", true);\n"
	if err := os.Mkdir(filepath.Join(profile, "chrome"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(profile, "chrome", "userChrome.css"), []byte(":root { min-width: 0 !important }"), 0o600); err != nil {
		return nil, err
	}
	if e.dark {
		prefs += "user_pref(\"layout.css.prefers-color-scheme.content-override\", 0);\n"
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o600); err != nil {
		return nil, err
	}
	if err := e.run(e.program, "--headless", "--marionette", "--no-remote", "--profile", profile); err != nil {
		return nil, err
	}
	var err error
	for began := time.Now(); time.Since(began) < 60*time.Second; pause(100 * time.Millisecond) {
		var port []byte
		if port, err = os.ReadFile(filepath.Join(profile, "MarionetteActivePort")); err != nil {
			continue
		}
		var conn net.Conn
		if conn, err = net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(port))); err != nil {
			continue
		}
		m := &marionette{conn: conn, reader: bufio.NewReader(conn)}
		var hello struct{}
		if err = m.read(&hello); err == nil {
			return m, m.command("WebDriver:NewSession", map[string]any{"strictFileInteractability": false}, nil)
		}
		_ = conn.Close()
	}
	return nil, err
}

func (m *marionette) read(value any) error {
	_ = m.conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	size, err := m.reader.ReadString(':')
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
	if err != nil {
		return err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(m.reader, b); err != nil {
		return err
	}
	return json.Unmarshal(b, value)
}

func (m *marionette) command(name string, params map[string]any, result any) error {
	if params == nil {
		params = map[string]any{}
	}
	m.last++
	b, err := json.Marshal([]any{0, m.last, name, params})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(b), b); err != nil {
		return err
	}
	var answer [4]json.RawMessage
	if err := m.read(&answer); err != nil {
		return err
	}
	if string(answer[2]) != "null" {
		return &commandError{text: fmt.Sprintf("%s: %s", name, answer[2])}
	}
	if result == nil {
		return nil
	}
	// Some answers have the value in an object, others are it.
	wrapped := struct {
		Value json.RawMessage
	}{}
	if json.Unmarshal(answer[3], &wrapped) == nil && wrapped.Value != nil {
		return json.Unmarshal(wrapped.Value, result)
	}
	return json.Unmarshal(answer[3], result)
}

func (m *marionette) quit() {
	_ = m.command("Marionette:Quit", map[string]any{"flags": []string{"eForceQuit"}}, nil)
	_ = m.conn.Close()
}
