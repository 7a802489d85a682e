package proxies_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// simple is a proxy that is tested over plain HTTP, before one server.
type simple struct {
	name    string // of the program
	file    string // in docs/proxies
	edits   func(dir, port string) []edit
	command func(dir, file, port string) []string
	ready   func() error // returns why it cannot be tested
	breaks  []broken     // edits that break streams, and what fanfare check says of them
	rare    bool         // Debian has no package of it: where it is missing, nothing is skipped
	late    bool         // it listens before it has read its routes
}

// broken is a configuration that breaks streams.
type broken struct {
	name  string
	edits []edit
	path  string
	fault string
}

var simples = []simple{
	{
		name: "apache2",
		file: "apache.conf",
		edits: func(dir, port string) []edit {
			return []edit{
				{"Listen 8080", "Listen 127.0.0.1:" + port},
				{"<VirtualHost *:8080>", "<VirtualHost *:" + port + ">"},
				{"/run/apache2/apache2.pid", filepath.Join(dir, "pid")},
				{"/var/log/apache2/error.log", filepath.Join(dir, "log")},
				{"ServerLimit 80", "ServerLimit 2"},
				{"MaxRequestWorkers 5120", "MaxRequestWorkers 128\nMutex posixsem"},
			}
		},
		command: func(dir, file, _ string) []string { return []string{"-X", "-d", dir, "-f", file} },
		breaks: []broken{
			{"without ProxyPreserveHost", []edit{{"ProxyPreserveHost On", ""}}, "/quick/ws", "origin"},
			{"without upgrade", []edit{{"upgrade=websocket", ""}}, "/quick/ws", "handshake"},
			{"a timeout below heartbeats", []edit{{"ProxyTimeout 60", "ProxyTimeout 1"}}, "/mute/events", "heartbeat"},
		},
	},
	{
		name: "lighttpd",
		file: "lighttpd.conf",
		edits: func(dir, port string) []edit {
			return []edit{
				{"server.port = 8080", "server.port = " + port},
				{"/var/www/html", dir},
				{"server.max-fds = 40000\nserver.max-connections = 20000", ""},
			}
		},
		command: func(_, file, _ string) []string { return []string{"-D", "-f", file} },
		breaks: []broken{
			{"without stream-response-body", []edit{{"server.stream-response-body = 2", ""}}, "/quick/events", "buffering"},
			{"without upgrade", []edit{{`proxy.header = ( "upgrade" => "enable" )`, ""}}, "/quick/ws", "handshake"},
		},
	},
	{
		name:  "varnishd",
		file:  "varnish.vcl",
		edits: func(string, string) []edit { return nil },
		command: func(dir, file, port string) []string {
			return []string{"-F", "-j", "none", "-n", filepath.Join(dir, "work"), "-a", "127.0.0.1:" + port, "-f", file, "-s", "malloc,16m", "-T", "none", "-p", "pipe_timeout=60"}
		},
		breaks: []broken{
			{"without the lines of pipe", []edit{{"set bereq.http.Upgrade = req.http.Upgrade;", ""}}, "/quick/ws", "handshake"},
			{"a timeout below heartbeats", []edit{{".between_bytes_timeout = 60s", ".between_bytes_timeout = 1s"}}, "/mute/events", "heartbeat"},
		},
	},
	{
		name: "node",
		file: "vite.config.js",
		edits: func(string, string) []edit {
			return []edit{{"'/events'", "'/quick/events'"}, {"'/ws'", "'/quick/ws'"}}
		},
		command: func(dir, file, port string) []string {
			return []string{vite, dir, "--config", file, "--port", port, "--strictPort", "--host", "127.0.0.1"}
		},
		ready: func() error {
			_, err := os.Stat(vite)
			return err
		},
		breaks: []broken{
			{"changeOrigin", []edit{{"ws: true", "ws: true, changeOrigin: true"}}, "/quick/ws", "origin"},
		},
	},
	{
		name: "node",
		file: "webpack.config.cjs",
		edits: func(string, string) []edit {
			return []edit{{"'/events'", "'/quick/events'"}, {"'/ws'", "'/quick/ws'"}, {"devServer:", "entry: {}, mode: 'development', devServer:"}}
		},
		command: func(_, file, port string) []string {
			return []string{webpack, "serve", "--config", file, "--port", port, "--host", "127.0.0.1"}
		},
		ready: func() error {
			_, err := os.Stat(webpack)
			return err
		},
		breaks: []broken{
			{"changeOrigin", []edit{{"ws: true", "ws: true, changeOrigin: true"}}, "/quick/ws", "origin"},
			{"its own WebSocket in the same place", []edit{{"'/webpack'", "'/quick/ws'"}}, "/quick/ws", "resume"},
		},
	},
	{
		name:  "traefik",
		file:  "traefik.dynamic.yml",
		rare:  true,
		late:  true,
		edits: func(string, string) []edit { return nil },
		command: func(_, file, port string) []string {
			return []string{
				"--entryPoints.web.address=127.0.0.1:" + port, "--providers.file.filename=" + file,
				"--entryPoints.web.transport.respondingTimeouts.readTimeout=1s", // of a request alone
				"--global.checkNewVersion=false", "--global.sendAnonymousUsage=false",
			}
		},
		breaks: []broken{
			{"without passHostHeader", []edit{{"passHostHeader: true", "passHostHeader: false"}}, "/quick/ws", "origin"},
			{"buffering", []edit{{"      compress:\n", "      buffering: {maxResponseBodyBytes: 1000000}\n    unused:\n      compress:\n"}}, "/quick/events", "buffering"},
		},
	},
}

// vite and webpack are the programs that npm install in internal/browsers/packages installs.
var (
	vite, _    = filepath.Abs("../browsers/packages/node_modules/vite/bin/vite.js")
	webpack, _ = filepath.Abs("../browsers/packages/node_modules/webpack/bin/webpack.js")
)

// startSimple runs a proxy before a server until the test ends, and returns its address.
func startSimple(t *testing.T, s simple, server string, edits []edit) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies", s.file))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755)) // a proxy may run as another user
	port := fmt.Sprint(freePorts(t, 1)[0])
	_, serverPort, err := net.SplitHostPort(server)
	require.NoError(t, err)
	config := string(text)
	for _, e := range append(edits, s.edits(dir, port)...) {
		require.Contains(t, config, e.old, "the test replaces this in docs/proxies/%s", s.file)
		config = strings.ReplaceAll(config, e.old, e.new)
	}
	require.Contains(t, config, "9001")
	config = strings.NewReplacer("9001", serverPort, "9002", serverPort).Replace(config)
	file := filepath.Join(dir, s.file)
	require.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	var log bytes.Buffer // owned by the command until it has ended
	command := exec.Command(s.name, s.command(dir, file, port)...)
	command.Dir, command.Stdout, command.Stderr = dir, &log, &log
	command.Env = append(os.Environ(), "HOME="+dir)
	command.WaitDelay = 5 * time.Second
	require.NoError(t, command.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // killed by a signal, as a rule
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = command.Process.Kill()
			<-ended
		}
		if t.Failed() {
			more, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s with\n%s\nlogged\n%s%s", s.name, config, log.String(), more)
		}
	})
	address := "127.0.0.1:" + port
	require.Eventually(t, func() bool {
		if s.late {
			response, err := http.Get("http://" + address + "/ready")
			if err == nil {
				response.Body.Close()
			}
			return err == nil && response.StatusCode == http.StatusOK
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, long, 10*time.Millisecond, "it never listened")
	return address
}

// eachSimple runs a test with each of these proxies that is installed.
func eachSimple(t *testing.T, test func(t *testing.T, s simple)) {
	for _, s := range simples {
		_, err := exec.LookPath(s.name)
		if err != nil && s.rare {
			t.Logf("%s is not installed: its configuration in docs/proxies is not tested", s.name)
			continue
		}
		t.Run(s.file, func(t *testing.T) {
			if err != nil {
				t.Skipf("%s is not installed: its configuration in docs/proxies is not tested", s.name)
			}
			if s.ready != nil {
				if err := s.ready(); err != nil {
					t.Skipf("%v: npm install in internal/browsers/packages installs it", err)
				}
			}
			t.Parallel()
			test(t, s)
		})
	}
}

// buildCheck builds the command fanfare.
func buildCheck(t *testing.T) (command string) {
	t.Helper()
	command = filepath.Join(t.TempDir(), "fanfare")
	out, err := exec.Command("go", "build", "-o", command, "../../cmd/fanfare").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return command
}

// Through each of these proxies streams on both transports have no fault, and each message
// arrives at once, although nothing follows it.
func TestSimpleProxiesPassStreams(t *testing.T) {
	check := buildCheck(t)
	eachSimple(t, func(t *testing.T, s simple) {
		b := newBackend(t, nil, new(middleware.Drain))
		address := startSimple(t, s, b.address, nil)
		for _, url := range []string{"http://" + address + "/quick/events", "ws://" + address + "/quick/ws"} {
			out, err := exec.Command(check, "check", "-wait", "10s", url).CombinedOutput()
			assert.NoError(t, err, "%s", out)
		}
		transport := new(http.Transport)
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		events := sse.NewReader(open(t, within(t, long), client, "http://"+address+"/quick/events").Body)
		page := http.Header{"Origin": {"http://" + address}} // webpack's server refuses a WebSocket without it
		conn, err := ws.Dial(within(t, long), "ws://"+address+"/quick/ws", &ws.DialOptions{HTTPClient: client, Header: page, Options: ws.Options{PingInterval: -1}})
		require.NoError(t, err)
		defer conn.CloseNow()
		_, _, err = conn.Read(within(t, long))
		require.NoError(t, err)
		fastest := long
		for i := range 5 {
			began := time.Now()
			b.publish(t, fmt.Sprint(i))
			e, err := events.Read()
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprint(i), string(e.Data))
			_, data, err := conn.Read(within(t, long))
			require.NoError(t, err)
			assert.Contains(t, string(data), fmt.Sprintf(`"data":"%d"`, i))
			fastest = min(fastest, time.Since(began))
		}
		assert.Less(t, fastest, 100*time.Millisecond) // heartbeats come each 250 ms
	})
}

// What docs/proxies.md warns of breaks streams, and fanfare check finds it.
func TestSimpleProxiesBreakStreams(t *testing.T) {
	longtest.Only(t)
	check := buildCheck(t)
	eachSimple(t, func(t *testing.T, s simple) {
		for _, broken := range s.breaks {
			t.Run(broken.name, func(t *testing.T) {
				t.Parallel()
				b := newBackend(t, nil, new(middleware.Drain))
				address := startSimple(t, s, b.address, broken.edits)
				scheme := "http://"
				if strings.HasSuffix(broken.path, "/ws") {
					scheme = "ws://"
				}
				out, err := exec.Command(check, "check", "-wait", "3s", scheme+address+broken.path).CombinedOutput()
				assert.Error(t, err, "%s", out)
				assert.Contains(t, string(out), "FAULT  "+broken.fault)
			})
		}
	})
}
