// Package conformance counts the cases of a standard that tests pass, and checks the tables
// in docs/conformance.md against the counts.
package conformance

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Table counts passed cases. It has a row for each part of a standard.
type Table struct {
	// Columns are the names of what is tested. Set before the first Run.
	Columns []string

	mu   sync.Mutex // guards rows
	rows []row
}

type row struct {
	part   string
	passed []int // by column
}

// Run runs a case as a subtest, and counts it if it passes.
func (c *Table) Run(t *testing.T, part, column, name string, test func(t *testing.T)) {
	t.Helper()
	if t.Run(column+"/"+name, test) {
		c.count(part, column)
	}
}

func (c *Table) count(part, column string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.rows, func(r row) bool { return r.part == part })
	if i < 0 {
		i = len(c.rows)
		c.rows = append(c.rows, row{part, make([]int, len(c.Columns))})
	}
	c.rows[i].passed[slices.Index(c.Columns, column)]++
}

// String returns the table in Markdown.
func (c *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(c.Columns, " | "), strings.Repeat("---|", len(c.Columns)))
	total := make([]int, len(c.Columns))
	line := func(part string, passed []int) {
		fmt.Fprintf(&b, "| %s |", part)
		for i, n := range passed {
			total[i] += n
			if n == 0 {
				b.WriteString(" - |")
			} else {
				fmt.Fprintf(&b, " %d |", n)
			}
		}
		b.WriteString("\n")
	}
	for _, r := range c.rows {
		line(r.part, r.passed)
	}
	line("in all", slices.Clone(total))
	return b.String()
}

// Check compares the table with the one in a file, which stands between the comments
// <!-- name --> and <!-- /name -->. If CONFORMANCE=write is in the environment, Check
// writes the table there instead.
func (c *Table) Check(t *testing.T, file, name string) {
	t.Helper()
	page, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(page), "<!-- "+name+" -->\n")
	old, after, ended := strings.Cut(rest, "<!-- /"+name+" -->")
	require.True(t, found && ended, "%s has no comments for the table %s", file, name)
	if os.Getenv("CONFORMANCE") == "write" {
		require.NoError(t, os.WriteFile(file, []byte(before+"<!-- "+name+" -->\n"+c.String()+"<!-- /"+name+" -->"+after), 0o644))
		return
	}
	require.Equal(t, c.String(), old, "%s is out of date: run the tests with CONFORMANCE=write", file)
}
