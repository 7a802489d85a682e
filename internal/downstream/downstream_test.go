// Package downstream_test installs the modules of the working tree as their users
// do: with go get, from a module proxy, at the version that will be tagged next.
package downstream_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A module is one that users install.
type module struct {
	Path    string // its import path
	Version string // the version that will be tagged next
	Dir     string // its folder in the repository, relative to the root
}

// A program outside of the repository can get, build and run each module that users
// install. Neither go.work nor the replace lines of a go.mod file help it.
func TestEachModuleIsInstallable(t *testing.T) {
	longtest.Only(t)
	if testing.Short() {
		t.Skip("builds every dependency of every module")
	}
	repository, err := filepath.Abs("../..")
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(repository, ".git")); err != nil {
		t.Skip("the list of files comes from git, and this is no clone:", err)
	}
	modules := installable(t, repository)
	proxy := t.TempDir()
	for _, m := range modules {
		// The dependencies are downloaded into this machine's module cache, as they are
		// for the module's own tests.
		run(t, filepath.Join(repository, m.Dir), []string{"GOWORK=off"}, "go", "mod", "download")
		offer(t, proxy, repository, m)
	}
	env := strangersMachine(t, proxy)

	for _, m := range modules {
		t.Run(path.Base(m.Path), func(t *testing.T) {
			dir := t.TempDir()
			program, err := os.ReadFile(filepath.Join("testdata", path.Base(m.Path), "main.go"))
			require.NoError(t, err, "each module needs a program that uses it")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), program, 0o644))

			run(t, dir, env, "go", "mod", "init", "example.com/hello")
			run(t, dir, env, "go", "get", m.Path+"@"+m.Version)
			assert.Equal(t, "hello\n", run(t, dir, env, "go", "run", "."))

			gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			require.NoError(t, err)
			assert.Contains(t, string(gomod), m.Path+" "+m.Version)
			assert.NotContains(t, string(gomod), "replace")
		})
	}
}

// installable lists the modules of the workspace that users install: all but those
// of its tests and examples. The version that will be tagged next is the one that
// the nested modules require of the root module.
func installable(t *testing.T, repository string) []module {
	t.Helper()
	var workspace struct{ Use []struct{ DiskPath string } }
	decode(t, run(t, repository, nil, "go", "work", "edit", "-json"), &workspace)
	var modules []module
	var version string
	for _, use := range workspace.Use {
		dir := filepath.Clean(use.DiskPath)
		if strings.HasPrefix(dir, "internal") || strings.HasPrefix(dir, "examples") {
			continue
		}
		var gomod struct {
			Module  struct{ Path string }
			Require []struct{ Path, Version string }
		}
		decode(t, run(t, filepath.Join(repository, dir), nil, "go", "mod", "edit", "-json"), &gomod)
		modules = append(modules, module{Path: gomod.Module.Path, Dir: dir})
		for _, r := range gomod.Require {
			if r.Path == modules[0].Path {
				version = r.Version
			}
		}
	}
	require.Equal(t, ".", modules[0].Dir, "go.work names the root module first")
	require.NotEmpty(t, version)
	for i := range modules {
		modules[i].Version = version
	}
	return modules
}

// strangersMachine returns the environment of a machine that has never seen this
// repository. It has no workspace, and a module cache of its own, so that this
// machine's cache never gets a version that is not tagged yet. Our modules come from
// the proxy and all others from this machine's cache. The network is not used: a
// published version of ours must not take the place of the working tree's, and the
// test passes offline once the dependencies are in the cache.
func strangersMachine(t *testing.T, proxy string) []string {
	t.Helper()
	var caches struct{ GOMODCACHE, GOCACHE string }
	decode(t, run(t, ".", nil, "go", "env", "-json", "GOMODCACHE", "GOCACHE"), &caches)
	return []string{
		// The settings of this machine's owner do not count.
		"GOENV=off", "GOWORK=off", "GOPRIVATE=", "GONOPROXY=",
		"GOMODCACHE=" + t.TempDir(),
		"GOPROXY=" + fileURL(proxy) + "," + fileURL(filepath.Join(caches.GOMODCACHE, "cache", "download")),
		"GOSUMDB=off", // no database has the sum of what is not tagged yet
		// The build cache is shared; with trimmed paths it serves the next run too.
		"GOCACHE=" + caches.GOCACHE,
		"GOFLAGS=-mod=mod -modcacherw -trimpath",
	}
}

func fileURL(dir string) string { return "file://" + filepath.ToSlash(dir) }

// run returns what a command prints to its standard output.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = dir
	command.Env = append(command.Environ(), env...)
	var complaints strings.Builder
	command.Stderr = &complaints
	out, err := command.Output()
	require.NoError(t, err, "%s: %s", command, complaints.String())
	return string(out)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), into))
}
