// Package internal_test checks the structure of the module.
package internal_test

import (
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

// TestImports keeps the packages apart that must not know of each other. A
// package's dependencies are all it needs, not only what it imports itself.
func TestImports(t *testing.T) {
	for _, test := range []struct {
		pkg     string
		not     []string
		ours    []string // all that may be needed of this module; nil: any
		outside []string // all that may be needed of others; nil: nothing
		reason  string
	}{
		{
			pkg:    "broadcast",
			not:    []string{"net/http"},
			ours:   []string{"internal/backoff", "internal/guard", "internal/ondemand"},
			reason: "publishing and journals have nothing to do with HTTP",
		},
		{
			pkg:    "",
			ours:   []string{"broadcast", "internal/backoff", "internal/guard", "internal/ondemand", "internal/status"},
			reason: "it is what both transports share, and knows neither",
		},
		{
			pkg:    "",
			ours:   []string{"broadcast", "internal/backoff", "internal/guard", "internal/ondemand", "internal/status"},
			reason: "it is what both transports share, and knows neither",
		},
		{
			pkg:    "sse",
			ours:   []string{"", "broadcast", "internal/backoff", "internal/delivery", "internal/guard", "internal/ondemand", "internal/origin", "internal/status", "internal/streamctx", "internal/tcp", "internal/wrappers"},
			reason: "the transports do not know of each other",
		},
		{
			pkg:     "ws",
			ours:    []string{"", "broadcast", "internal/backoff", "internal/delivery", "internal/guard", "internal/ondemand", "internal/origin", "internal/status", "internal/streamctx", "internal/tcp", "internal/wrappers"},
			outside: []string{"github.com/coder/websocket"},
			reason:  "the transports do not know of each other",
		},
		{
			pkg:    "middleware",
			ours:   []string{"", "broadcast", "internal/guard", "internal/origin", "internal/status", "internal/streamctx"},
			reason: "middleware knows of requests, not of what streams say",
		},
		{
			pkg:    "faults",
			ours:   []string{"internal/memnet", "internal/streamctx"},
			reason: "what goes wrong between client and server has nothing to do with what they say",
		},
		{
			pkg:    "sse/ssetest",
			not:    []string{"github.com/fanfare-go/fanfare/ws", "github.com/stretchr/testify/require"},
			ours:   nil,
			reason: "it tests sse alone, and users need not have testify",
		},
		{
			pkg:     "ws/wstest",
			not:     []string{"github.com/fanfare-go/fanfare/sse", "github.com/stretchr/testify/require"},
			outside: []string{"github.com/coder/websocket"},
			reason:  "it tests ws alone, and users need not have testify",
		},
		{
			pkg:    "internal/streamctx",
			ours:   []string{},
			reason: "middleware stands on it, and on nothing else of ours",
		},
	} {
		t.Run(test.pkg, func(t *testing.T) {
			deps := list(t, "-deps", "./"+test.pkg)
			for _, dep := range deps {
				ours, isOurs := strings.CutPrefix(dep, module)
				ours = strings.TrimPrefix(ours, "/")
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

// TestRequirements keeps the root module's own requirements few: whoever needs
// one package of it gets them all into their module graph.
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

// TestDocumentation wants a comment on everything that is exported to users,
// fields and methods of interfaces too. Staticcheck says how a comment has to begin, but not
// that there is one.
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
	miss := func(documented bool, idents ...*ast.Ident) {
		for _, ident := range idents {
			if ident.IsExported() && !documented {
				names = append(names, ident)
			}
		}
	}
	fields := func(list *ast.FieldList) {
		for _, field := range list.List {
			miss(field.Doc != nil || field.Comment != nil, field.Names...)
		}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil && !exportedReceiver(d) || standard(d) {
				continue
			}
			miss(d.Doc != nil, d.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					miss(d.Doc != nil || s.Doc != nil || s.Comment != nil, s.Names...)
				case *ast.TypeSpec:
					miss(d.Doc != nil || s.Doc != nil, s.Name)
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

// standard reports whether a method says all in its name, for it implements an
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
