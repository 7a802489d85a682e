// Package interop tests the kit with software that others wrote: their clients and
// routers against our handlers, and our clients against their servers.
package interop
