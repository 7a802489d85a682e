package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadmeProgram keeps the README's first program the one that runs as an
// example.
func TestReadmeProgram(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "```go\n")
	require.True(t, found)
	program, _, found := strings.Cut(rest, "```\n")
	require.True(t, found)

	source, err := os.ReadFile("../examples/hello/main.go")
	require.NoError(t, err)
	_, main, found := strings.Cut(string(source), "\npackage main\n")
	require.True(t, found)
	assert.Equal(t, "package main\n"+main, program)
	assert.Less(t, strings.Count(program, "\n"), 25, "the first program is short")
}

// TestLinks finds links within the repository that lead nowhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, page := range []string{"../README.md", "../CHANGELOG.md"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(page), match[1]))
			assert.NoError(t, err, page)
		}
	}
}
