// Package deafpeer makes a TCP peer vanish, for tests of what the kernel does then. A
// connection in memory has no acknowledgements that could be missing.
package deafpeer
