package prefetch

import "unsafe"

// Struct asks for the first 256 bytes of what p points to. p may be nil.
func Struct[T any](p *T) { lines(unsafe.Pointer(p)) }

// Value asks for the first 256 bytes of what a pointer in v points to. v may be nil.
func Value(v any) {
	type emptyInterface struct{ typ, data unsafe.Pointer }
	lines((*emptyInterface)(unsafe.Pointer(&v)).data)
}
