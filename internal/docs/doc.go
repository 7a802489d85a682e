// Package docs keeps the pages of this repository true: their code compiles, and their
// links lead somewhere. It is a module of its own, since the pages on how to migrate need
// what one migrates from.
//
// Run its tests with -count=1: the cache does not know of pages outside of this module.
package docs
