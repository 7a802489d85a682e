// Package internal_test checks the structure of the module.
package internal_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
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

const module = "github.com/fanfare-go/fanfare"

// A package depends only on what its row allows, directly and through others.
func TestImports(t *testing.T) {
	for _, test := range []struct {
		pkg     string
		not     []string // packages that it must not depend on
		ours    []string // the packages of this module that it may depend on; nil means any
		outside []string // the packages of other modules that it may depend on; nil means none
		reason  string
	}{
		{
			pkg:    "broadcast",
			not:    []string{"net/http"},
			ours:   []string{"internal/backoff", "internal/guard", "internal/ondemand", "internal/prefetch", "internal/ratelog", "internal/reserved"},
			reason: "publishing and journals do not depend on HTTP",
		},
		{
			pkg:    "broadcast/filejournal",
			not:    []string{"net/http"},
			ours:   []string{"broadcast", "internal/backoff", "internal/guard", "internal/ondemand", "internal/prefetch", "internal/ratelog", "internal/reserved"},
			reason: "a durable log needs no dependency",
		},
		{
			pkg:    "",
			ours:   []string{"broadcast", "internal/backoff", "internal/guard", "internal/ondemand", "internal/prefetch", "internal/ratelog", "internal/reserved", "internal/status"},
			reason: "both transports share it, so it imports neither",
		},
		{
			pkg:    "sse",
			ours:   []string{"", "broadcast", "internal/backoff", "internal/delivery", "internal/guard", "internal/jsontext", "internal/ondemand", "internal/origin", "internal/prefetch", "internal/ratelog", "internal/reserved", "internal/status", "internal/streamctx", "internal/tcp", "internal/watch", "internal/wrappers"},
			reason: "the transports do not import each other",
		},
		{
			pkg:     "ws",
			ours:    []string{"", "broadcast", "internal/backoff", "internal/delivery", "internal/guard", "internal/jsontext", "internal/ondemand", "internal/origin", "internal/prefetch", "internal/ratelog", "internal/reserved", "internal/status", "internal/streamctx", "internal/tcp", "internal/watch", "internal/wrappers"},
			outside: []string{"github.com/coder/websocket"},
			reason:  "the transports do not import each other",
		},
		{
			pkg:    "middleware",
			ours:   []string{"", "broadcast", "internal/backoff", "internal/guard", "internal/ondemand", "internal/origin", "internal/prefetch", "internal/ratelog", "internal/reserved", "internal/status", "internal/streamctx"},
			reason: "middleware handles requests and does not depend on a transport",
		},
		{
			pkg:    "inspect",
			not:    []string{"github.com/fanfare-go/fanfare/ws"},
			reason: "it shows handlers of any transport, and needs no dependency",
		},
		{
			pkg:    "faults",
			ours:   []string{"internal/memnet", "internal/streamctx"},
			reason: "faults of a network do not depend on what is sent over it",
		},
		{
			pkg:    "sse/ssetest",
			not:    []string{"github.com/fanfare-go/fanfare/ws", "github.com/stretchr/testify/require"},
			ours:   nil,
			reason: "it serves sse alone, and users need not have testify",
		},
		{
			pkg:     "ws/wstest",
			not:     []string{"github.com/fanfare-go/fanfare/sse", "github.com/stretchr/testify/require"},
			outside: []string{"github.com/coder/websocket"},
			reason:  "it serves ws alone, and users need not have testify",
		},
		{
			pkg:    "internal/streamctx",
			ours:   []string{},
			reason: "middleware and both transports build on it",
		},
	} {
		t.Run(test.pkg, func(t *testing.T) {
			deps := list(t, "-deps", "./"+test.pkg)
			for _, dep := range deps {
				ours, isOurs := strings.CutPrefix(dep, module)
				ours = strings.TrimPrefix(ours, "/")
				first, _, _ := strings.Cut(dep, "/")
				switch {
				case slices.Contains(test.not, dep):
					assert.Fail(t, dep, test.reason)
				case isOurs && ours != test.pkg && test.ours != nil:
					assert.Contains(t, test.ours, ours, test.reason)
				case !isOurs && strings.Contains(first, ".") && !strings.HasPrefix(dep, "vendor/"):
					assert.True(t, slices.ContainsFunc(test.outside, func(allowed string) bool {
						return dep == allowed || strings.HasPrefix(dep, allowed+"/")
					}), "%s: %s", dep, test.reason)
				}
			}
		})
	}
}

// The root module requires few others: a program that imports one of its packages
// gets all of them in its module graph.
func TestRequirements(t *testing.T) {
	gomod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	allowed := []string{"github.com/coder/websocket", "github.com/go-chi/chi/v5", "github.com/stretchr/testify"}
	direct := regexp.MustCompile(`(?m)^(?:require )?\s*(\S+\.\S+/\S+) v\S+$`)
	found := direct.FindAllStringSubmatch(string(gomod), -1)
	require.NotEmpty(t, found)
	for _, match := range found {
		if !strings.HasPrefix(match[1], "golang.org/x/") {
			assert.Contains(t, allowed, match[1])
		}
	}
}

// Each nested module requires of ours the one version that will be tagged next, so
// that users can install it, and replaces it with the working tree, so that the go
// command needs no tag while that version is written. CONTRIBUTING.md describes both.
func TestNestedModules(t *testing.T) {
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	versions := map[string]bool{}
	for _, dir := range list(t, "-m", "-f", "{{.Dir}}") {
		var gomod struct {
			Require []struct{ Path, Version string }
			Replace []struct{ Old, New struct{ Path string } }
		}
		out, err := exec.Command("go", "mod", "edit", "-json", filepath.Join(dir, "go.mod")).Output()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out, &gomod))
		replaced := map[string]string{}
		for _, r := range gomod.Replace {
			replaced[r.Old.Path] = r.New.Path
		}
		for _, r := range gomod.Require {
			if r.Path != module && !strings.HasPrefix(r.Path, module+"/") {
				continue
			}
			versions[r.Version] = true
			want, err := filepath.Rel(dir, filepath.Join(root, strings.TrimPrefix(r.Path, module)))
			require.NoError(t, err)
			assert.Equal(t, filepath.ToSlash(want), replaced[r.Path], "%s: the replace line of %s", dir, r.Path)
		}
	}
	assert.Len(t, versions, 1, "all require the same version")
	assert.NotContains(t, versions, "v0.0.0", "no such version is ever tagged")
}

// Everything that is exported to users has a comment, including fields and the
// methods of interfaces. Staticcheck checks how a comment begins, not that it exists.
func TestDocumentation(t *testing.T) {
	for _, dir := range list(t, "-f", "{{.Dir}}", "./...") {
		if strings.Contains(dir, "/internal") {
			continue
		}
		fset := token.NewFileSet()
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
			require.NoError(t, err)
			for _, undocumented := range undocumentedIn(file) {
				assert.Fail(t, "no documentation", "%s: %s", fset.Position(undocumented.Pos()), undocumented.Name)
			}
		}
	}
}

func undocumentedIn(file *ast.File) (names []*ast.Ident) {
	report := func(documented bool, idents ...*ast.Ident) {
		for _, ident := range idents {
			if ident.IsExported() && !documented {
				names = append(names, ident)
			}
		}
	}
	fields := func(list *ast.FieldList) {
		for _, field := range list.List {
			report(field.Doc != nil || field.Comment != nil, field.Names...)
		}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil && !exportedReceiver(d) || standard(d) {
				continue
			}
			report(d.Doc != nil, d.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					report(d.Doc != nil || s.Doc != nil || s.Comment != nil, s.Names...)
				case *ast.TypeSpec:
					report(d.Doc != nil || s.Doc != nil, s.Name)
					if !s.Name.IsExported() {
						continue
					}
					switch typ := s.Type.(type) {
					case *ast.StructType:
						fields(typ.Fields)
					case *ast.InterfaceType:
						fields(typ.Methods)
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	ident, ok := typ.(*ast.Ident)
	return ok && ident.IsExported()
}

// standard reports whether a method needs no comment because it implements an
// interface of the standard library.
func standard(d *ast.FuncDecl) bool {
	return d.Recv != nil && (d.Name.Name == "Error" || d.Name.Name == "ServeHTTP")
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	command := exec.Command("go", append([]string{"list"}, args...)...)
	command.Dir = ".."
	out, err := command.Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

// In a browser, a Go program follows streams with sse.Client. The doc of ws says that ws does
// not build there.
func TestBuildsForBrowsers(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles the standard library for another system")
	}
	for pkg, builds := range map[string]bool{"sse": true, "broadcast": true, "ws": false} {
		cmd := exec.Command("go", "build", "-o", os.DevNull, "./"+pkg)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
		out, err := cmd.CombinedOutput()
		assert.Equal(t, builds, err == nil, "%s: %s", pkg, out)
		doc, err := os.ReadFile("../" + pkg + "/doc.go")
		require.NoError(t, err)
		assert.Equal(t, !builds, strings.Contains(string(doc), "does not build for GOOS=js"), pkg)
	}
}
