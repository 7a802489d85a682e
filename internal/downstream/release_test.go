package downstream_test

import (
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

// One command tags a commit for each module that users install, and prints the one
// that publishes the tags. Until that is run, nobody else sees any of it.
func TestReleaseTagsEachModule(t *testing.T) {
	modules := installable(t)
	version := modules[0].Version
	origin, clone := releasable(t, version, readByRelease...)
	before := state(t, origin)

	printed := run(t, clone, identity, "bash", ".ci/release", version)
	var tags []string
	for _, m := range modules {
		tags = append(tags, m.tag())
		assert.Equal(t, "tag\n", run(t, clone, nil, "git", "cat-file", "-t", m.tag()), "%s is annotated", m.tag())
		assert.Equal(t, run(t, clone, nil, "git", "rev-parse", "HEAD"),
			run(t, clone, nil, "git", "rev-parse", m.tag()+"^{commit}"))
	}
	assert.ElementsMatch(t, tags, strings.Fields(run(t, clone, nil, "git", "tag")))
	assert.Equal(t, before, state(t, origin), "nothing is pushed")

	push(t, clone, printed)
	assert.ElementsMatch(t, tags, strings.Fields(run(t, origin, nil, "git", "tag")))
	assert.Equal(t, run(t, clone, nil, "git", "rev-parse", "main"), run(t, origin, nil, "git", "rev-parse", "main"))
}

// If anything is wrong, the command says what, and leaves the repository as it was.
func TestReleaseRefuses(t *testing.T) {
	version := installable(t)[0].Version
	_, original := releasable(t, version, readByRelease...)
	tests := []struct {
		name    string
		prepare string // a shell script that makes the fault
		args    []string
		says    string
	}{
		{"no version", "", nil, "needs the version"},
		{"two versions", "", []string{version, version}, "needs the version"},
		{"a version without v", "", []string{"0.1.0"}, "write it like"},
		{"a version in short", "", []string{"v0.1"}, "write it like"},
		{"a version that needs another module path", "", []string{"v2.0.0"}, "write it like"},
		{"another branch", "git switch -qc mend", []string{version}, "git switch main"},
		{"no branch", "git switch -q --detach", []string{version}, "git switch main"},
		{"a changed file", "echo >>CHANGELOG.md", []string{version}, "commit or remove"},
		{"a file that git does not know", "touch new.go", []string{version}, "commit or remove"},
		{"no section in the changelog", "sed -i 's/^## v.*/## Unreleased/' CHANGELOG.md; git commit -qam -", []string{version},
			"no section '## " + version + "'"},
		{"a section of a longer version alone", "sed -i 's/^## v.*/&0/' CHANGELOG.md; git commit -qam -", []string{version},
			"no section '## " + version + "'"},
		{"a module that requires another version", "sed -i 's/fanfare v.*/&-old/' broadcast/natsjournal/go.mod; git commit -qam -",
			[]string{version}, "broadcast/natsjournal/go.mod"},
		{"a module of the tests that does", "sed -i 's/fanfare v.*/&-old/' internal/docs/go.mod; git commit -qam -",
			[]string{version}, "internal/docs/go.mod"},
		{"a tag of the root module", "git tag " + version, []string{version}, "exist already"},
		{"a tag of a nested module", "git tag broadcast/redisjournal/" + version, []string{version}, "exist already"},
		{"a tag that cannot be made, after others", "git tag broadcast/redisjournal", []string{version}, "could not make the tag"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			clone := filepath.Join(t.TempDir(), "clone")
			run(t, ".", nil, "git", "clone", "--quiet", original, clone)
			run(t, clone, identity, "bash", "-ec", test.prepare)
			before := state(t, clone)

			release := command(t, clone, identity, "bash", append([]string{".ci/release"}, test.args...)...)
			var out, complaint strings.Builder
			release.Stdout, release.Stderr = &out, &complaint
			require.Error(t, release.Run(), out.String())
			assert.Equal(t, 1, release.ProcessState.ExitCode(), complaint.String())
			assert.Contains(t, complaint.String(), test.says)
			assert.Empty(t, out.String())
			assert.Equal(t, before, state(t, clone), "nothing changes")
		})
	}
}

// readByRelease is what .ci/release reads: enough for a repository of which only the tags
// count, and far quicker to clone.
var readByRelease = []string{".ci", "CHANGELOG.md", "*go.mod"}

// releasable returns a repository and a clone of it. Its main has files of the working
// tree, named by git's patterns, in a commit that can become the version.
func releasable(t *testing.T, version string, files ...string) (origin, clone string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(repository, ".git")); err != nil {
		t.Skip("git knows which files there are, and this is no clone:", err)
	}
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	origin, clone = filepath.Join(t.TempDir(), "origin.git"), filepath.Join(t.TempDir(), "clone")
	run(t, ".", nil, "git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	ofWorkingTree := []string{"--git-dir", origin, "--work-tree", "."}
	run(t, repository, nil, "git", slices.Concat(ofWorkingTree, []string{"add", "--"}, files)...)
	run(t, repository, identity, "git", append(ofWorkingTree, "commit", "--quiet", "--message", "The working tree")...)
	run(t, ".", nil, "git", "clone", "--quiet", origin, clone)

	file := filepath.Join(clone, "CHANGELOG.md")
	changelog, err := os.ReadFile(file)
	require.NoError(t, err)
	if !strings.Contains(string(changelog), "\n## "+version) {
		named := strings.Replace(string(changelog), "\n## Unreleased\n", "\n## "+version+"\n", 1)
		require.NotEqual(t, string(changelog), named, "there is something to release")
		require.NoError(t, os.WriteFile(file, []byte(named), 0o644))
		run(t, clone, identity, "git", "commit", "--quiet", "--all", "--message", "Release "+version)
	}
	return origin, clone
}

// push runs the command that .ci/release has printed to publish the tags.
func push(t *testing.T, clone, printed string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^ *git push .*$`).FindString(printed)
	require.NotEmpty(t, line, printed)
	run(t, clone, nil, "bash", "-c", line)
}

// state returns all that a release must not change before it is sure to succeed.
func state(t *testing.T, repository string) string {
	t.Helper()
	refs := run(t, repository, nil, "git", "for-each-ref")
	if run(t, repository, nil, "git", "rev-parse", "--is-bare-repository") == "true\n" {
		return refs
	}
	return refs + run(t, repository, nil, "git", "status", "--porcelain", "--branch") +
		run(t, repository, nil, "git", "diff", "HEAD")
}

// identity is who commits and tags.
var identity = []string{
	"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com",
	"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com",
}
