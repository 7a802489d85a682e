// Command build makes browser/fanfare.js and browser/fanfare-shared.js from their sources in
// browser/src, into the folder that is its argument. Run it with go generate ./browser.
package main

import (
	"fmt"
	"os"

	"github.com/evanw/esbuild/pkg/api"
)

// short are the names of what both files use. They stay the same from version to version, since
// a browser may have one of the files in its cache.
var short = map[string]any{
	"connect_": "_a", "stop_": "_b", "rides_": "_c", "set_": "_d", "dispatch_": "_e", "silence_": "_f", "look_": "_g", "granted_": "_h",
	"quiet_": "_i", "enter_": "_j", "leave_": "_k", "changed_": "_l", "received_": "_m",
}

func main() {
	outdir := "."
	if len(os.Args) > 1 {
		outdir = os.Args[1]
	}
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{"src/fanfare.js", "src/fanfare-shared.js"},
		Outdir:      outdir, Write: true, AllowOverwrite: true,
		Charset: api.CharsetUTF8, Format: api.FormatESModule, Target: api.ES2022,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
		MangleProps: "_$", MangleCache: short,
		LogLevel: api.LogLevelWarning,
	})
	if len(result.Errors) > 0 {
		fmt.Fprintln(os.Stderr, "build: fanfare.js has errors")
		os.Exit(1)
	}
}
