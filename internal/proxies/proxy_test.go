package proxies_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The public address of the proxies. It is never resolved: a client of a proxy dials that
// proxy, whatever the URL is.
const (
	public       = "http://example.com:8080"
	publicSecure = "https://example.com:8443"
)

// certificateFile is the path in all three configurations.
const certificateFile = "/etc/ssl/example.com.pem"

// edit replaces a text in a configuration, wherever it occurs. The test fails if it does not,
// so that a change of the documentation is noticed.
type edit struct{ old, new string }

// program is a proxy and the edits that tests make to its configuration.
type program struct {
	name string
	file string // in docs/proxies
	args func(dir, file string) []string

	listen   func(plain, secure int) []edit // replaces the ports 8080 and 8443
	private  func(dir string) []edit        // keeps its files in the test's folder
	gzip     []edit                         // compresses all text, streams included
	idle     []edit                         // cuts connections that are idle for a second
	buffer   []edit                         // buffers responses, whatever their headers
	checks   []edit                         // checks the servers' health more often
	nextTry  bool                           // it tries the other server after a 503
	encoding string                         // Content-Encoding of a stream under gzip
	holds    bool                           // it buffers a stream under gzip
}

var programs = []program{
	{
		name: "nginx",
		file: "nginx.conf",
		args: func(dir, file string) []string {
			return []string{"-p", dir, "-c", file, "-e", "stderr", "-g", "daemon off; master_process off; pid nginx.pid;"}
		},
		listen: func(plain, secure int) []edit {
			return []edit{
				{"listen 8080", fmt.Sprint("listen 127.0.0.1:", plain)},
				{"listen 8443 ssl http2;", fmt.Sprintf("listen 127.0.0.1:%d ssl http2;", secure)},
			}
		},
		private: func(dir string) []edit {
			own := "http {\n"
			for _, temporary := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				own += fmt.Sprintf("    %s_temp_path %s;\n", temporary, filepath.Join(dir, temporary))
			}
			return []edit{
				{"worker_rlimit_nofile 40000;", ""},
				{"worker_connections 20000", "worker_connections 200"},
				{"http {\n", own},
				{"/var/log/nginx/access.log", filepath.Join(dir, "log")},
			}
		},
		gzip: []edit{{"gzip_types text/css", "gzip_types text/event-stream text/css"}},
		idle: []edit{{"proxy_read_timeout 60s", "proxy_read_timeout 1s"}},
		// This uses HTTP/1.0, nginx's default. Over 1.1 nginx passes chunks on.
		buffer:   []edit{{"proxy_http_version 1.1;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"}},
		nextTry:  true,
		encoding: "gzip", // nginx ignores no-transform
	},
	{
		name: "haproxy",
		file: "haproxy.cfg",
		args: func(_, file string) []string { return []string{"-db", "-f", file} },
		listen: func(plain, secure int) []edit {
			return []edit{
				{"bind :8080", fmt.Sprint("bind 127.0.0.1:", plain)},
				{"bind :8443", fmt.Sprint("bind 127.0.0.1:", secure)},
			}
		},
		private: func(string) []edit { return []edit{{"maxconn 20000", "maxconn 200"}} },
		gzip:    []edit{{"compression type text/css", "compression type text/"}},
		idle: []edit{
			{"timeout client 60s", "timeout client 1s"},
			{"timeout server 60s", "timeout server 1s"},
			{"timeout tunnel 60s", "timeout tunnel 1s"},
		},
		buffer:  []edit{{"balance leastconn", "balance leastconn\n    http-response wait-for-body time 60s"}},
		nextTry: true,
	},
	{
		name: "caddy",
		file: "Caddyfile",
		args: func(_, file string) []string { return []string{"run", "--adapter", "caddyfile", "--config", file} },
		listen: func(plain, secure int) []edit {
			return []edit{
				{"example.com:8080 {\n", fmt.Sprintf("example.com:%d {\n\tbind 127.0.0.1\n", plain)},
				{"example.com:8443 {\n", fmt.Sprintf("example.com:%d {\n\tbind 127.0.0.1\n", secure)},
			}
		},
		private: func(string) []edit {
			return []edit{{"\tlog {\n", "\tadmin off\n\tauto_https disable_redirects\n\tgrace_period 1s\n\tlog {\n"}}
		},
		gzip:     []edit{{"header Content-Type text/css*", "header Content-Type text/*"}},
		holds:    true,
		encoding: "gzip",
		idle:     []edit{{"read_timeout 60s", "read_timeout 1s"}},
		buffer:   []edit{{"lb_policy least_conn", "buffer_responses\n\t\tlb_policy least_conn"}},
		checks:   []edit{{"health_interval 2s", "health_interval 100ms"}},
	},
}

// each runs a test with each proxy that is installed.
func each(t *testing.T, test func(t *testing.T, p program)) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			installed(t, p)
			t.Parallel()
			test(t, p)
		})
	}
}

// installed skips the test if the program is not installed.
func installed(t *testing.T, p program) program {
	t.Helper()
	if _, err := exec.LookPath(p.name); err != nil {
		t.Skipf("%s is not installed (apt-get install %s): its configuration in docs/proxies is not tested", p.name, p.name)
	}
	return p
}

// proxy is a running program.
type proxy struct {
	log           string // the file with all that it has logged
	plain, secure string // addresses it listens on
	roots         *x509.CertPool
}

// start runs a program in front of two servers until the test ends, with its configuration
// from docs/proxies.
func start(t *testing.T, p program, a, b string, edits ...[]edit) *proxy {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies", p.file))
	require.NoError(t, err)
	dir := t.TempDir()
	ports := freePorts(t, 2)
	pemFile, roots := certificate(t, dir)
	config := string(text)
	edits = append(edits, p.listen(ports[0], ports[1]), p.private(dir), []edit{
		{"127.0.0.1:9001", a},
		{"127.0.0.1:9002", b},
		{certificateFile, pemFile},
	})
	for _, group := range edits {
		for _, e := range group {
			require.Contains(t, config, e.old, "the test replaces this in docs/proxies/%s", p.file)
			config = strings.ReplaceAll(config, e.old, e.new)
		}
	}
	file := filepath.Join(dir, p.file)
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))

	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	cmd := exec.Command(p.name, p.args(dir, file)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	require.NoError(t, log.Close())
	running := &proxy{log: log.Name(), plain: fmt.Sprint("127.0.0.1:", ports[0]), secure: fmt.Sprint("127.0.0.1:", ports[1]), roots: roots}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed by a signal, as a rule
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			assert.Fail(t, "it does not end after SIGTERM")
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s with\n%s\nlogged\n%s", p.name, config, running.logged(t))
		}
	})

	client := running.client(t)
	for _, base := range []string{public, publicSecure} {
		require.Eventually(t, func() bool {
			select {
			case <-ended:
				return true
			default:
			}
			response, err := client.Get(base + "/ready")
			if err != nil {
				return false
			}
			defer func() { _ = response.Body.Close() }()
			return response.StatusCode == http.StatusOK
		}, 10*time.Second, 10*time.Millisecond, "it never answered at %s", base)
	}
	select {
	case <-ended:
		require.Fail(t, "it ended at once")
	default:
	}
	return running
}

// logged returns what the proxy has logged.
func (p *proxy) logged(t *testing.T) string {
	text, err := os.ReadFile(p.log)
	require.NoError(t, err)
	return string(text)
}

// client returns a client that reaches the proxy at the public address, over HTTP/1.1, which
// a WebSocket needs.
func (p *proxy) client(t *testing.T) *http.Client {
	transport := p.transport(t, new(atomic.Int64))
	return &http.Client{Transport: transport}
}

// transport returns a transport to the proxy that counts its connections in dialed.
func (p *proxy) transport(t *testing.T, dialed *atomic.Int64) *http.Transport {
	addresses := map[string]string{"example.com:8080": p.plain, "example.com:8443": p.secure}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: p.roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addresses[address])
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// freePorts finds unused ports. Another process may take one before the proxy does; the test
// then fails, which is rare.
func freePorts(t *testing.T, n int) (ports []int) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }() // closed at the end, so that no port comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// certificate makes a self-signed certificate for the public host. The key is in the same
// file, as haproxy needs it; the others accept that.
func certificate(t *testing.T, dir string) (file string, roots *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "example.com"},
		DNSNames:              []string{"example.com"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	file = filepath.Join(dir, "example.com.pem")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	roots = x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(text))
	return file, roots
}
