package browsers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/longtest"
)

// engine is a browser that is started once for all tests, by the first that needs it.
type engine struct {
	name    string
	program string // is looked for in PATH
	start   func(*engine) (commander, error)
	dark    bool // it prefers dark pages; Chromium's tabs choose themselves

	once    sync.Once
	err     error
	client  commander
	folder  string // for the profile and the log
	process *exec.Cmd
	home    string // the window that is never closed

	mu      sync.Mutex // guards what follows
	current string     // the window that commands go to
}

// commander is a WebDriver session. Commands have their names in Firefox's protocol.
type commander interface {
	command(name string, params map[string]any, result any) error
}

var engines = []*engine{
	{name: "chromium", program: "chromedriver", start: startChromium},
	{name: "firefox", program: "firefox-esr", start: startFirefox},
	{name: "webkit", program: "WebKitWebDriver", start: startWebKit},
}

// waiting are the tests that wait for many seconds of real time, or try many packages.
var waiting = []string{"TestDeadConnectionIsFound", "TestLeaderIsBusy", "TestFailoverLosesNothing", "TestSoak", "TestExpiredGrantIsRenewed", "TestGrantIsRenewedBeforeItExpires",
	"TestPolyfillsResume", "TestPolyfillsStayOnQuietStreams", "TestPolyfillsRetryAfterARefusal"}

// inEach runs a test in each browser that is installed; without LONG=1 in the first alone, and
// not if it waits for long.
func inEach(t *testing.T, f func(*testing.T, *engine)) {
	t.Helper()
	for i, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			if i > 0 || slices.Contains(waiting, strings.Split(t.Name(), "/")[0]) {
				longtest.Only(t)
			}
			t.Parallel() // mostly they wait
			f(t, e.started(t))
		})
	}
}

func (e *engine) started(t *testing.T) *engine {
	t.Helper()
	if _, err := exec.LookPath(e.program); err != nil {
		t.Skipf("%s is not installed", e.program)
	}
	e.once.Do(func() {
		if e.folder, e.err = os.MkdirTemp("", "browsers-"+e.name); e.err == nil {
			e.client, e.err = e.start(e)
		}
		if e.err == nil {
			e.err = e.client.command("WebDriver:GetWindowHandle", nil, &e.home)
		}
	})
	require.NoError(t, e.err, "%s: %s", e.name, e.log())
	return e
}

func (e *engine) log() string {
	b, _ := os.ReadFile(filepath.Join(e.folder, "log"))
	return string(b[max(0, len(b)-2000):])
}

// run starts the program of the engine in a process group of its own.
func (e *engine) run(name string, args ...string) error {
	log, err := os.Create(filepath.Join(e.folder, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	e.process = exec.Command(name, args...)
	e.process.Stdout, e.process.Stderr = log, log
	e.process.Env = append(os.Environ(), "HOME="+e.folder, "XDG_RUNTIME_DIR="+e.folder, "LIBGL_ALWAYS_SOFTWARE=1",
		"MOZ_DISABLE_CONTENT_SANDBOX=1", "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS=1", "NO_AT_BRIDGE=1", "GTK_A11Y=none")
	if e.dark {
		e.process.Env = append(e.process.Env, "GTK_THEME=Adwaita:dark") // of WebKit
	}
	e.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return e.process.Start()
}

func (e *engine) stop() {
	if e.process != nil && e.process.Process != nil {
		_ = syscall.Kill(-e.process.Process.Pid, syscall.SIGKILL)
		_ = e.process.Wait()
	}
	if e.folder != "" {
		_ = os.RemoveAll(e.folder)
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // browsers wait more than they work
	code := m.Run()
	for _, e := range engines {
		if quit, ok := e.client.(interface{ quit() }); ok {
			quit.quit()
		}
		e.stop()
	}
	os.Exit(code)
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func startChromium(e *engine) (commander, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	port := freePort()
	if err := e.run(e.program, "--port="+port); err != nil {
		return nil, err
	}
	return newSession(port, map[string]any{"goog:chromeOptions": map[string]any{
		"binary": path,
		"args": []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--disable-background-networking",
			"--disable-component-update", "--no-first-run", "--user-data-dir=" + filepath.Join(e.folder, "profile")},
		"excludeSwitches": []string{"disable-back-forward-cache"},
	}})
}

func startWebKit(e *engine) (commander, error) {
	xvfb, err := exec.LookPath("xvfb-run")
	if err != nil {
		return nil, err
	}
	port := freePort()
	if err := e.run(xvfb, "-a", "-s", "-screen 0 1280x800x24", e.program, "--port="+port); err != nil {
		return nil, err
	}
	return newSession(port, map[string]any{"browserName": "MiniBrowser"})
}

// httpSession speaks WebDriver (W3C) over HTTP.
type httpSession struct{ url string }

func newSession(port string, capabilities map[string]any) (commander, error) {
	base := "http://127.0.0.1:" + port
	var created struct {
		Value struct {
			SessionID string
		}
	}
	params := map[string]any{"capabilities": map[string]any{"alwaysMatch": capabilities}}
	var err error
	for began := time.Now(); time.Since(began) < 30*time.Second; pause(50 * time.Millisecond) {
		if err = roundTrip(http.MethodPost, base+"/session", params, &created); err == nil {
			return &httpSession{url: base + "/session/" + created.Value.SessionID}, nil
		}
		if _, isAnswer := err.(*commandError); isAnswer {
			return nil, err
		}
	}
	return nil, err
}

// commandError is what a driver answers to a command that it refuses.
type commandError struct{ text string }

func (e *commandError) Error() string { return e.text }

func roundTrip(method, url string, params, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var body io.Reader
	if method == http.MethodPost {
		b, err := json.Marshal(params)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return &commandError{text: fmt.Sprintf("%s %s: %s", method, url, b)}
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(b, result)
}

func (s *httpSession) command(name string, params map[string]any, result any) error {
	method, path := http.MethodPost, ""
	switch name {
	case "WebDriver:Navigate":
		path = "/url"
	case "WebDriver:Back":
		path = "/back"
	case "WebDriver:ExecuteScript":
		path = "/execute/sync"
	case "WebDriver:NewWindow":
		path = "/window/new"
	case "WebDriver:SwitchToWindow":
		path = "/window"
	case "WebDriver:CloseWindow":
		method, path = http.MethodDelete, "/window"
	case "WebDriver:GetWindowHandle":
		method, path = http.MethodGet, "/window"
	case "WebDriver:TakeScreenshot":
		method, path = http.MethodGet, "/screenshot"
	case "WebDriver:SetWindowRect":
		path = "/window/rect"
	default:
		path = strings.TrimPrefix(name, "WebDriver:") // one that only this browser has
	}
	if params == nil {
		params = map[string]any{}
	}
	answer := struct{ Value any }{Value: result}
	return roundTrip(method, s.url+path, params, &answer)
}

func (s *httpSession) quit() { _ = roundTrip(http.MethodDelete, s.url, nil, nil) }
