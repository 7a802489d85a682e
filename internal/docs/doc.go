// Package docs tests the Markdown pages of this repository: their Go code compiles, their
// JavaScript parses, and their links have a target. It is a separate module because the page
// on migrating uses the libraries from which one migrates.
//
// Run its tests with -count=1: the test cache does not notice changes in pages outside of this
// module.
package docs
