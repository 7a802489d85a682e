// Command build makes browser/fanfare.js and browser/fanfare-shared.js from their sources in
// browser/src. Run it with go generate ./browser.
package main

import (
	"fmt"
	"os"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{"src/fanfare.js", "src/fanfare-shared.js"},
		Outdir:      ".", Write: true, AllowOverwrite: true,
		Charset: api.CharsetUTF8, Format: api.FormatESModule, LineLimit: 120, Target: api.ES2022,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
		Banner:   map[string]string{"js": "// Built from src by go generate. MIT license."},
		LogLevel: api.LogLevelInfo,
	})
	if len(result.Errors) > 0 {
		fmt.Fprintln(os.Stderr, "build: fanfare.js has errors")
		os.Exit(1)
	}
}
