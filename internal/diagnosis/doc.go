// Package diagnosis looks at what a stream has to stand on: the ResponseWriter and
// the context that a router's middleware leave to it.
package diagnosis
