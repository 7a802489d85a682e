package browsers_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
	"github.com/stretchr/testify/require"
)

// inPackages runs a program in the folder packages.
func inPackages(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = "packages"
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return string(out)
}

// install packs the package and installs it, or skips the test if npm has not installed the
// bundlers.
func install(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("packages/node_modules/vite"); err != nil {
		t.Skip("vite is not installed: run npm install in internal/browsers/packages")
	}
	folder := t.TempDir()
	c := exec.Command("npm", "pack", "--silent", "--pack-destination", folder)
	c.Dir = "../../browser"
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	archive := filepath.Join(folder, strings.TrimSpace(string(out)))
	listed, err := exec.Command("tar", "--list", "--file", archive).Output()
	require.NoError(t, err)
	for _, file := range []string{"README.md", "LICENSE", "package.json", "fanfare.js", "fanfare-shared.js", "fanfare.d.ts"} {
		require.Contains(t, string(listed), "package/"+file+"\n")
	}
	installed := "packages/node_modules/@fanfare-go/fanfare"
	require.NoError(t, os.RemoveAll(installed))
	require.NoError(t, os.MkdirAll(installed, 0o755))
	out, err = exec.Command("tar", "--extract", "--file", archive, "--directory", installed, "--strip-components", "1").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The package works in Node, with bundlers, TypeScript, and the hooks of docs/browsers.md in
// React, Vue and Svelte.
func TestPackage(t *testing.T) {
	install(t)
	t.Run("Node", func(t *testing.T) {
		inPackages(t, "node", "--input-type=module", "--eval", "import { Fanfare } from '@fanfare-go/fanfare'; import { share } from '@fanfare-go/fanfare/fanfare-shared.js'; if (!Fanfare || !share) throw 1")
		inPackages(t, "node", "--input-type=commonjs", "--eval", "import('@fanfare-go/fanfare').then(({ Fanfare }) => { if (Fanfare.OPEN !== 1) throw 1 })")
		inPackages(t, "node", "use.js")
	})
	t.Run("TypeScript", func(t *testing.T) {
		for _, resolution := range []string{"bundler", "node16", "nodenext"} {
			module := map[string]string{"bundler": "es2022"}[resolution]
			if module == "" {
				module = resolution
			}
			inPackages(t, "node_modules/.bin/tsc", "--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--typeRoots", "none",
				"--module", module, "--moduleResolution", resolution, "types.ts")
		}
	})
	t.Run("esbuild", func(t *testing.T) {
		dist := t.TempDir()
		inPackages(t, "node_modules/.bin/esbuild", "use.js", "--bundle", "--splitting", "--format=esm", "--outdir="+dist, "--log-level=warning")
		inPackages(t, "node", "--input-type=module", "--eval", "import "+quoted(filepath.Join(dist, "use.js")))
		files, err := os.ReadDir(dist)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(files), 2, "shared tabs are a chunk of their own")
	})
	t.Run("vite", func(t *testing.T) {
		dist := t.TempDir()
		inPackages(t, "node", "--input-type=module", "--eval", "import { build } from 'vite'; await build({ root: '.', configFile: false, logLevel: 'error', build: { outDir: "+quoted(dist)+", lib: { entry: 'use.js', formats: ['es'], fileName: 'use' } } })")
		files, err := filepath.Glob(filepath.Join(dist, "*.js"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(files), 2, "shared tabs are a chunk of their own")
	})
	t.Run("hooks", func(t *testing.T) {
		writeHooks(t)
		inPackages(t, "node_modules/.bin/vitest", "run", "--root", ".")
	})
}

func quoted(text string) string { return "'" + text + "'" }

// writeHooks writes the blocks of docs/browsers.md that follow the name of a framework.
func writeHooks(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("../../docs/browsers.md")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll("packages/hooks", 0o755))
	for _, name := range []string{"React", "Vue", "Svelte"} {
		block := regexp.MustCompile("(?s)\n" + name + ":\n\n```js\n(.*?)```").FindSubmatch(page)
		require.NotNil(t, block, name)
		require.LessOrEqual(t, bytes.Count(block[1], []byte("\n")), 15, "a hook is short")
		require.NoError(t, os.WriteFile("packages/hooks/"+strings.ToLower(name)+".js", block[1], 0o600))
	}
}

// The modules are built from their sources, and have the syntax that the browsers in
// package.json know.
func TestModulesAreBuilt(t *testing.T) {
	for _, name := range []string{"fanfare.js", "fanfare-shared.js"} {
		kept, err := os.ReadFile("../../browser/" + name)
		require.NoError(t, err)
		folder := t.TempDir()
		c := exec.Command("go", "run", "../internal/browsers/build", folder)
		c.Dir = "../../browser"
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		built, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		require.Equal(t, string(built), string(kept), "run go generate ./browser")

		result := api.Transform(string(kept), api.TransformOptions{Format: api.FormatESModule, Engines: []api.Engine{
			{Name: api.EngineChrome, Version: "94"}, {Name: api.EngineFirefox, Version: "105"}, {Name: api.EngineSafari, Version: "16.4"}}})
		require.Empty(t, result.Errors)
		again := api.Transform(string(kept), api.TransformOptions{Format: api.FormatESModule})
		require.Equal(t, string(again.Code), string(result.Code), "nothing has to be lowered")
	}
	manifest, err := os.ReadFile("../../browser/package.json")
	require.NoError(t, err)
	require.Contains(t, string(manifest), `"chrome >= 94, edge >= 94, firefox >= 105, safari >= 16.4"`)
	license, err := os.ReadFile("../../LICENSE")
	require.NoError(t, err)
	packed, err := os.ReadFile("../../browser/LICENSE")
	require.NoError(t, err)
	require.Equal(t, string(license), string(packed))
}
