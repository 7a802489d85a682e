package docs_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ours = "github.com/fanfare-go/fanfare/"

// paths are the import paths of the packages that blocks use without importing them. A package
// of the standard library whose path is its name needs no entry.
var paths = map[string]string{
	"fanfare": strings.TrimSuffix(ours, "/"), "broadcast": ours + "broadcast", "sse": ours + "sse", "ws": ours + "ws", "middleware": ours + "middleware", "browser": ours + "browser", "inspect": ours + "inspect",
	"faults": ours + "faults", "ssetest": ours + "sse/ssetest", "wstest": ours + "ws/wstest", "broadcasttest": ours + "broadcast/broadcasttest",
	"filejournal": ours + "broadcast/filejournal", "natsjournal": ours + "broadcast/natsjournal", "redisjournal": ours + "broadcast/redisjournal", "prometheusstats": ours + "broadcast/prometheusstats",
	"chi": "github.com/go-chi/chi/v5", "require": "github.com/stretchr/testify/require",
	"chimiddleware": "github.com/go-chi/chi/v5/middleware", "live": ours + "middleware",
	"scs": "github.com/alexedwards/scs/v2", "gorilla": "github.com/gorilla/sessions", "jwt": "github.com/golang-jwt/jwt/v5", "sha256": "crypto/sha256",
	"datastar": "github.com/starfederation/datastar-go/datastar",
	"mcp":      "github.com/modelcontextprotocol/go-sdk/mcp", "nats": "github.com/nats-io/nats.go", "redis": "github.com/redis/go-redis/v9",
	"prometheus": "github.com/prometheus/client_golang/prometheus", "promhttp": "github.com/prometheus/client_golang/prometheus/promhttp",
	"http": "net/http", "httptest": "net/http/httptest", "slog": "log/slog", "json": "encoding/json", "synctest": "testing/synctest", "tls": "crypto/tls",
	"rand": "crypto/rand", "atomic": "sync/atomic", "signal": "os/signal",
}

// given declares what blocks use without declaring it.
var given = map[string]string{
	"ctx":        "var ctx context.Context",
	"hub":        "var hub *broadcast.Hub",
	"mux":        "var mux *http.ServeMux",
	"server":     "var server *http.Server",
	"router":     "var router chi.Router",
	"drain":      "var drain *middleware.Drain",
	"news":       "var news http.Handler",
	"events":     "var events *sse.Handler",
	"sockets":    "var sockets *ws.Handler",
	"onlyAdmins": "func onlyAdmins(next http.Handler) http.Handler { return next }",
	"newRouter":  "func newRouter() http.Handler { return nil }",
	"publish":    "func publish(text string) {}",
	"userOf":     "func userOf(r *http.Request) (user string, expires time.Time, err error) { return }",
	"mayRead":    "func mayRead(user, topic string) bool { return false }",
	"redeem":     "func redeem(ticket string) (user string, err error) { return }",
	"answer":     "func answer(ctx context.Context, prompt string) iter.Seq[string] { return nil }",
	"loadPrices": "func loadPrices(ctx context.Context) ([]broadcast.Message, error) { return nil, nil }",
	"mount":      "func mount(router chi.Router, hub *broadcast.Hub, mayRead func(r *http.Request, topic string) bool) {}",
	"store":      "var store interface{ Pay(ctx context.Context, order string) error }",
	"setPrice":   "func setPrice(ctx context.Context, hub *broadcast.Hub, symbol string, price []byte) error { return nil }",

	"pricesFromTheStart": "func pricesFromTheStart(hub *broadcast.Hub) http.Handler { return nil }",
}

var name = regexp.MustCompile(`^(?:func|var) (\w+)`)

// TestGo compiles each block of Go. A block is a file, declarations, or statements.
func TestGo(t *testing.T) {
	folder := t.TempDir()
	here, err := os.Getwd()
	require.NoError(t, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	args := []string{"list", "-export", "-overlay", filepath.Join(folder, "overlay.json")} // compiles and does not link
	for _, p := range pages(t) {
		blocks, _ := p.split()
		for _, b := range blocks {
			if b.language != "go" {
				continue
			}
			source, err := complete(b.text, fmt.Sprintf("%s:%d", p.path, b.line))
			if !assert.NoError(t, err) {
				continue
			}
			n := fmt.Sprintf("block%d", len(overlay.Replace))
			file := filepath.Join(folder, n+".go")
			require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
			overlay.Replace[filepath.Join(here, "blocks", n, "block.go")] = file
			args = append(args, "./blocks/"+n)
		}
	}
	require.Greater(t, len(overlay.Replace), 10)
	text, err := json.Marshal(overlay)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "overlay.json"), text, 0o600))
	out, err := exec.Command("go", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%d blocks of Go", len(overlay.Replace))
}

// complete makes a Go file from a block. Errors name its position in the page.
func complete(text, position string) (string, error) {
	at := "//line " + position + "\n"
	if strings.HasPrefix(text, "package ") || strings.Contains(text, "\npackage ") {
		return at + text, nil
	}
	body := at + text
	file, err := parse("package block\n" + body)
	if err != nil {
		body = "func _() error {\n" + at + text + "\nreturn nil }\n"
		if file, err = parse("package block\n" + body); err != nil {
			return "", fmt.Errorf("%s: the block is neither a file nor declarations nor statements: %w", position, err)
		}
	}
	declared := declarations(file)
	file, err = parse("package block\n" + body + declared)
	if err != nil {
		return "", err
	}
	return "package block\n" + imports(file) + body + declared, nil
}

func parse(source string) (*ast.File, error) {
	return parser.ParseFile(token.NewFileSet(), "", source, 0)
}

// declarations returns the given declarations that a file uses, in a fixed order, so that the
// go command finds the block in its cache the next time.
func declarations(file *ast.File) (text string) {
	for _, used := range slices.Sorted(maps.Keys(unresolved(file))) {
		text += "\n" + given[used]
	}
	return text + "\n"
}

// imports returns imports for the names before a dot that a file does not declare.
func imports(file *ast.File) string {
	free := unresolved(file)
	packages := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && free[x.Name] {
				packages[x.Name] = true
			}
		}
		return true
	})
	var text strings.Builder
	for _, p := range slices.Sorted(maps.Keys(packages)) {
		path, known := paths[p]
		if !known {
			path = p
		}
		fmt.Fprintf(&text, "import %s %q\n", p[strings.LastIndex(p, "/")+1:], path)
	}
	return text.String()
}

// unresolved returns the names that a file uses and does not declare.
func unresolved(file *ast.File) map[string]bool {
	names := make(map[string]bool)
	for _, ident := range file.Unresolved { //nolint:staticcheck // names are enough here
		names[ident.Name] = true
	}
	return names
}

// TestGiven checks that each entry of given declares the name that is its key.
func TestGiven(t *testing.T) {
	for n, declaration := range given {
		match := name.FindStringSubmatch(declaration)
		require.NotNil(t, match)
		require.Equal(t, n, match[1])
	}
}

// TestJavaScript checks the syntax of each block of JavaScript with Node.
func TestJavaScript(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: the blocks of JavaScript are not checked")
	}
	n := 0
	for _, p := range pages(t) {
		blocks, _ := p.split()
		for _, b := range blocks {
			if b.language != "js" {
				continue
			}
			n++
			file := filepath.Join(t.TempDir(), "block.mjs")
			require.NoError(t, os.WriteFile(file, []byte(b.text), 0o600))
			out, err := exec.Command(node, "--check", file).CombinedOutput()
			assert.NoError(t, err, "%s:%d: %s", p.path, b.line, out)
		}
	}
	require.Positive(t, n)
}
