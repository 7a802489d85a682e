package downstream_test

import (
	"archive/zip"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// offer puts one version of a module into the folder of a module proxy, laid out as
// https://go.dev/ref/mod#goproxy-protocol has it.
func offer(t *testing.T, proxy, repository string, m module) {
	t.Helper()
	versions := filepath.Join(proxy, filepath.FromSlash(m.Path), "@v") // no path of ours has upper-case letters to escape
	require.NoError(t, os.MkdirAll(versions, 0o755))
	write := func(name string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(versions, name), content, 0o644))
	}
	gomod, err := os.ReadFile(filepath.Join(repository, m.Dir, "go.mod"))
	require.NoError(t, err)

	write("list", []byte(m.Version+"\n"))
	write(m.Version+".info", []byte(`{"Version":"`+m.Version+`","Time":"`+time.Now().UTC().Format(time.RFC3339)+`"}`))
	write(m.Version+".mod", gomod)
	archive, err := os.Create(filepath.Join(versions, m.Version+".zip"))
	require.NoError(t, err)
	defer archive.Close()
	pack(t, archive, repository, m)
}

// pack writes the zip of a module as https://go.dev/ref/mod#zip-files has it: the
// files that git tracks, as they are in the working tree, without those of modules
// nested in it, and with the repository's licence.
func pack(t *testing.T, archive *os.File, repository string, m module) {
	t.Helper()
	root := filepath.Join(repository, m.Dir)
	tracked := strings.Split(strings.TrimRight(run(t, root, nil, "git", "ls-files", "-z"), "\x00"), "\x00")
	nested := map[string]bool{}
	for _, name := range tracked {
		if dir, file := path.Split(name); file == "go.mod" && dir != "" {
			nested[path.Clean(dir)] = true
		}
	}
	out := zip.NewWriter(archive)
	add := func(name, from string) {
		content, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			return // removed since the last commit
		}
		require.NoError(t, err)
		entry, err := out.Create(m.Path + "@" + m.Version + "/" + name)
		require.NoError(t, err)
		_, err = entry.Write(content)
		require.NoError(t, err)
	}
	for _, name := range tracked {
		if !within(nested, name) {
			add(name, filepath.Join(root, filepath.FromSlash(name)))
		}
	}
	if m.Dir != "." {
		add("LICENSE", filepath.Join(repository, "LICENSE"))
	}
	require.NoError(t, out.Close())
}

// within reports whether a file is in one of the folders.
func within(dirs map[string]bool, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if dirs[dir] {
			return true
		}
	}
	return false
}
