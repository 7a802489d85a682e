// Package interop tests the kit with software of other projects: their clients and routers
// with our handlers, and our clients with their servers.
package interop
