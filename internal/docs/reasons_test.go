package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reason matches a reason in the source: where a Reason is made or renamed, and in the table
// of close codes.
var reason = regexp.MustCompile(`(?:Reason\{Name: |refusal\(|why\.Name = |why\.Name, why\.Detail = |cmp\.Or\(refusals\[code\], |Status\w+: +)"([^"]+)"`)

// TestReasons compares the reasons for which streams end, in the source, with those that the
// page on the log explains.
func TestReasons(t *testing.T) {
	page := read(t, "docs/observability.md")
	_, table, found := strings.Cut(page, "| reason | what happened |\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	explained := make(map[string]bool)
	for row := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
		for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			explained[match[1]] = true
		}
	}
	used := make(map[string]bool)
	for _, folder := range []string{"internal/delivery", "sse", "ws"} {
		files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, match := range reason.FindAllStringSubmatch(string(source), -1) {
				used[match[1]] = true
			}
		}
	}
	assert.Equal(t, used, explained)
	assert.Greater(t, len(used), 10)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}
