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

// TestReasons compares the reasons for which streams end, in the source, with those that
// the page on the log explains.
func TestReasons(t *testing.T) {
	page := read(t, "docs/observability.md")
	_, table, found := strings.Cut(page, "| reason | what happened |\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	told := make(map[string]bool)
	for row := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
		for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			told[match[1]] = true
		}
	}
	given := make(map[string]bool)
	for _, file := range []string{"internal/delivery/delivery.go", "internal/delivery/stream.go", "ws/handler.go", "ws/inbox.go"} {
		for _, match := range regexp.MustCompile(`(?:Reason\{Name: |refusal\(|why\.Name = |why\.Name, why\.Detail = |Status\w+: +)"([^"]+)"`).FindAllStringSubmatch(read(t, file), -1) {
			given[match[1]] = true
		}
	}
	assert.Equal(t, given, told)
	assert.Greater(t, len(given), 10)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}
