package docs_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/adopting.md names each module that a user's binary may have, and no other, by the package
// that brings it.
func TestLicences(t *testing.T) {
	const none = "none"
	listed := map[string][]string{}
	var pkg []string
	module := regexp.MustCompile(`(?:[a-z]+\.)+[a-z]+/[\w./-]+`)
	for _, p := range pages(t) {
		if p.path != "docs/adopting.md" {
			continue
		}
		for _, line := range p.lines {
			cells := strings.Split(line, "|")
			if len(cells) != 5 || strings.TrimSpace(cells[2]) != none && !module.MatchString(cells[2]) {
				continue
			}
			if names := regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[1], -1); names != nil {
				pkg = nil
				for _, name := range names {
					pkg = append(pkg, name[1])
				}
			}
			for _, name := range pkg {
				listed[name] = append(listed[name], module.FindAllString(cells[2], -1)...)
			}
		}
	}
	require.Len(t, listed, 10)
	for name, modules := range listed {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", paths[name]).Output()
		require.NoError(t, err, name)
		want := map[string]bool{}
		for path := range strings.FieldsSeq(string(out)) {
			if !strings.HasPrefix(path+"/", ours) {
				want[path] = true
			}
		}
		got := map[string]bool{}
		for _, path := range modules {
			got[path] = true
		}
		assert.Equal(t, want, got, name)
	}
}
