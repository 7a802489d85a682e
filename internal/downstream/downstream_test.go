// Package downstream_test tries a release on a copy of the working tree: .ci/release
// tags it, and then each module is installed as its users do it, with go get.
package downstream_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const repository = "../.."

// A module is one that users install.
type module struct {
	Path    string // its import path
	Version string // the version that will be tagged next
	Dir     string // its folder in the repository, relative to the root
}

// tag returns the name by which the go command finds the version of the module.
func (m module) tag() string { return path.Join(filepath.ToSlash(m.Dir), m.Version) }

// The tags give each module as it is here: with its own files and the licence, and
// without those of the modules nested in it.
func TestTagsGiveEachModule(t *testing.T) {
	longtest.Only(t)
	modules, env := strangersMachine(t)
	for _, m := range modules {
		t.Run(path.Base(m.Path), func(t *testing.T) {
			var downloaded struct{ Version, Dir string }
			decode(t, run(t, t.TempDir(), env, "go", "mod", "download", "-json", m.Path+"@"+m.Version), &downloaded)
			assert.Equal(t, m.Version, downloaded.Version)
			assert.FileExists(t, filepath.Join(downloaded.Dir, "LICENSE"))
			for _, other := range modules {
				if dir, err := filepath.Rel(m.Dir, other.Dir); err == nil && filepath.IsLocal(dir) && dir != "." {
					assert.NoDirExists(t, filepath.Join(downloaded.Dir, dir), "it is a module of its own")
				}
			}

			want, err := os.ReadFile(filepath.Join(repository, m.Dir, "go.mod"))
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join(downloaded.Dir, "go.mod"))
			require.NoError(t, err)
			assert.Equal(t, string(want), string(got))
		})
	}
}

// A program outside of the repository can get, build and run each module that users
// install. Neither go.work nor the replace lines of a go.mod file help it.
func TestEachModuleIsInstallable(t *testing.T) {
	longtest.Only(t)
	if testing.Short() {
		t.Skip("builds every dependency of every module")
	}
	modules, env := strangersMachine(t)
	for _, m := range modules {
		// The dependencies are downloaded into this machine's module cache, as they are
		// for the module's own tests.
		run(t, filepath.Join(repository, m.Dir), []string{"GOWORK=off"}, "go", "mod", "download")
	}

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
func installable(t *testing.T) []module {
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

// strangersMachine releases the modules, and returns the environment of a machine that
// has never seen this repository. It has no workspace, and a module cache of its own, so
// that this machine's cache never gets a version that is not tagged yet. Our modules come
// from the repository with the tags, as module proxies get them, and all others from this
// machine's cache. The network is not used: a published version of ours must not take
// the place of the working tree's, and the test passes offline once the dependencies are
// in the cache.
func strangersMachine(t *testing.T) (released []module, env []string) {
	t.Helper()
	modules := installable(t)
	origin, clone := releasable(t, modules[0].Version, ".")
	push(t, clone, run(t, clone, identity, "bash", ".ci/release", modules[0].Version))

	var caches struct{ GOMODCACHE, GOCACHE string }
	decode(t, run(t, ".", nil, "go", "env", "-json", "GOMODCACHE", "GOCACHE"), &caches)
	return modules, []string{
		// The settings of this machine's owner do not count.
		"GOENV=off", "GOWORK=off", "GONOPROXY=",
		"GOMODCACHE=" + t.TempDir(),
		"GOPRIVATE=" + modules[0].Path, "GOVCS=", // ours come from git
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=url." + fileURL(origin) + ".insteadOf", "GIT_CONFIG_VALUE_0=https://" + modules[0].Path,
		"GOPROXY=" + fileURL(filepath.Join(caches.GOMODCACHE, "cache", "download")),
		"GOSUMDB=off", // asks over the network
		// The build cache is shared; with trimmed paths it serves the next run too.
		"GOCACHE=" + caches.GOCACHE,
		"GOFLAGS=-mod=mod -modcacherw -trimpath",
	}
}

func fileURL(dir string) string { return "file://" + filepath.ToSlash(dir) }

// run returns what a command prints to its standard output.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	command := command(t, dir, env, name, args...)
	var complaints strings.Builder
	command.Stderr = &complaints
	out, err := command.Output()
	require.NoError(t, err, "%s: %s", command, complaints.String())
	return string(out)
}

// command returns a command that does not know the git settings of this machine's
// owner, nor the repository whose hook may run these tests.
func command(t *testing.T, dir string, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = dir
	command.Env = slices.DeleteFunc(command.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_") })
	command.Env = append(command.Env, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
	command.Env = append(command.Env, env...)
	return command
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), into))
}
