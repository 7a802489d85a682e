package browsers_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/longtest"
)

// example is a program of the folder examples with a page.
type example struct {
	folder string
	args   []string
	path   string // of the page
	alone  bool   // one browser plays it: what it plays is done to the server, not to the page

	before string // a script that runs before its button is pressed

	// played is a condition that is true once the page has shown what its button plays.
	played string
}

const verdict = `document.getElementById("verdict").textContent.startsWith("✓")`

// withOneStopped leaves the cluster as a page does that is reloaded while it plays, and watches how
// few servers run from then on.
const withOneStopped = `
	window.fewest = 3
	new MutationObserver(() => { window.fewest = Math.min(window.fewest, 3 - document.querySelectorAll(".dead").length) })
		.observe(document.getElementById("nodes"), { subtree: true, attributes: true })
	return fetch("/nodes/2/kill", { method: "POST" }).then(() => {})`

var examples = []example{
	{folder: "chat", path: "/rooms/%s", played: verdict + ` && document.querySelectorAll(".replayed:not([hidden])").length >= 5 && !document.getElementById("play").disabled
		&& /^Reconnected over WebSocket \(was EventSource\)/.test([...document.querySelectorAll("[data-role=return] .what")].at(-1).textContent)`},
	{folder: "accounts", path: "/", played: verdict + ` && document.querySelectorAll("#phone .closed").length === 3 && document.querySelectorAll("#servers .open").length === 3`},
	{folder: "answers", path: "/", played: verdict + ` && document.getElementById("verdict").textContent.includes("1 cut, 1 reload, 2 transports")`},
	{folder: "board", path: "/", played: verdict + ` && document.getElementById("step").textContent.startsWith("Now")`},
	{folder: "prices", path: "/", played: `document.querySelector("[data-path=keyed]").className === "good" && document.querySelector("[data-path=unkeyed]").className === "bad"
		&& document.querySelector("[data-path=keyed] [data-role=gaps]").textContent === "0"`},
	{folder: "rolling", args: []string{"-page", "localhost:0", "-clients", "50", "-spread", "2s"}, path: "/", alone: true, played: verdict + ` && document.getElementById("verdict").textContent.includes("2 restarts")`},
	{folder: "cluster", path: "/", alone: true, before: withOneStopped,
		played: verdict + ` && !/ 0 moves/.test(document.getElementById("verdict").textContent) && !document.getElementById("play").disabled && window.fewest === 2`},
}

// run builds and starts the program, and returns the address of its page.
func (x example) run(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), x.folder)
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("../../examples", x.folder)
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	args := x.args
	if args == nil {
		args = []string{"-addr", "localhost:0"}
	}
	command := exec.Command(program, args...)
	command.Env = append(os.Environ(), "GOTRACEBACK=all")
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt) // which lets rolling end its servers
		ended := make(chan struct{})
		go func() { _ = command.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			_ = command.Process.Kill()
			<-ended
		}
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		// Of rolling, the first address is that of its proxy, which has no page.
		if _, address, ok := strings.Cut(lines.Text(), "http://"); ok && !strings.HasPrefix(lines.Text(), "proxy") {
			go func() {
				for lines.Scan() { // so that the program does not block
				}
			}()
			return "http://" + strings.TrimSuffix(strings.TrimSuffix(address, "/rooms/lobby"), "\n") + x.path
		}
	}
	require.FailNow(t, "the program prints no address", x.folder)
	return ""
}

// visit opens a page that does not know of these tests.
func (e *engine) visit(t *testing.T, url string) *tab {
	t.Helper()
	blank := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>blank</title><script>window.loaded = true</script>")
	}))
	t.Cleanup(blank.Close)
	p := e.open(t, blank.URL)
	require.NoError(t, p.do("WebDriver:Navigate", map[string]any{"url": url}, nil))
	return p
}

func (x example) url(base, name string) string {
	if strings.Contains(base, "%s") {
		return fmt.Sprintf(base, name)
	}
	return base
}

// Each page plays what it is for on one button, in each browser, and nothing is lost meanwhile.
func TestExamplesPlayWhatTheyShow(t *testing.T) {
	for _, x := range examples {
		t.Run(x.folder, func(t *testing.T) {
			t.Parallel()
			if x.alone {
				longtest.Only(t)
			}
			base := x.run(t)
			play := func(t *testing.T, e *engine) {
				p := e.visit(t, x.url(base, e.name))
				p.until(`document.getElementById("play")`)
				if x.folder != "answers" {
					// Wait until the page is connected.
					p.until(`document.querySelector("#verdict, [data-role=state]") && !/^connecting|connect$/.test(document.querySelector("#verdict, [data-role=state]").textContent)`)
				}
				if x.before != "" {
					p.run(x.before)
				}
				p.run(`document.getElementById("play").click()`)
				p.within(2*patience, x.played)
				p.screenshot("example-" + x.folder)
			}
			if x.alone {
				play(t, engines[0].started(t))
				return
			}
			inEach(t, play)
		})
	}
}

// axe-core finds nothing on the pages, light and dark, while they show what they are for.
func TestExamplesAreAccessible(t *testing.T) {
	longtest.Only(t)
	axe, err := os.ReadFile("packages/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Skip("npm install in internal/browsers/packages first")
	}
	e := engines[0].started(t)
	for _, x := range examples {
		t.Run(x.folder, func(t *testing.T) {
			t.Parallel()
			p := e.visit(t, x.url(x.run(t), "axe"))
			p.until(`document.getElementById("play")`)
			p.run(`document.getElementById("play").click()`)
			if x.folder == "answers" {
				p.within(2*patience, x.played) // it reloads itself, which would end axe
			}
			pause(3 * time.Second) // something is shown
			for _, scheme := range []string{"light", "dark"} {
				require.NoError(t, p.do("WebDriver:/goog/cdp/execute", map[string]any{"cmd": "Emulation.setEmulatedMedia", "params": map[string]any{
					"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}, map[string]any{"name": "prefers-reduced-motion", "value": "reduce"}},
				}}, nil))
				p.until("matchMedia('(prefers-color-scheme: " + scheme + ")').matches")
				pause(500 * time.Millisecond) // transitions of colours end
				p.run(string(axe))
				p.run(`window.found = null;
					axe.run().then(({ violations }) => { window.found = JSON.stringify(violations.map(({ id, help, nodes }) =>
						({ id, help, nodes: nodes.slice(0, 4).map(({ target, any }) => [target.join(" "), any[0]?.message].join(": ")) }))) }, (error) => { window.found = String(error) })`)
				p.until("window.found")
				var found []any
				text := evaluate[string](p, "window.found")
				require.NoError(t, json.Unmarshal([]byte(text), &found), text)
				assert.Empty(t, found, scheme)
			}
		})
	}
}
