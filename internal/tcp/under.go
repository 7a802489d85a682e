package tcp

import (
	"net"
	"reflect"
	"syscall"
)

// maxWrappers bounds how many wrappers of a connection are looked through: one may
// return itself.
const maxWrappers = 32

// maxEmbedded bounds how deep structs may be embedded in each other.
const maxEmbedded = 8

var connType = reflect.TypeFor[net.Conn]()

// Under returns the innermost connection that can be reached from c, which may be c: it
// looks through TLS and other wrappers. What a wrapper wraps is what its method NetConn,
// Raw or TCPConn returns, or else the net.Conn that is embedded in it.
//
// The result is for what concerns the socket: a read or a write that passes the wrappers
// would miss what they do.
func Under(c net.Conn) net.Conn {
	for range maxWrappers {
		inner := unwrap(c)
		if inner == nil {
			return c
		}
		c = inner
	}
	return c
}

// unwrap returns what a connection wraps; nil if it wraps nothing that can be reached.
func unwrap(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *net.TCPConn, *net.UnixConn:
		return nil
	case interface{ NetConn() net.Conn }: // crypto/tls
		if inner := c.NetConn(); inner != nil {
			return inner
		}
	case interface{ Raw() net.Conn }: // pires/go-proxyproto
		if inner := c.Raw(); inner != nil {
			return inner
		}
	case interface{ TCPConn() (*net.TCPConn, bool) }:
		if inner, ok := c.TCPConn(); ok && inner != nil {
			return inner
		}
	case interface{ TCPConn() *net.TCPConn }:
		if inner := c.TCPConn(); inner != nil {
			return inner
		}
	}
	return embedded(reflect.ValueOf(c), maxEmbedded)
}

// embedded returns the connection that is embedded in a struct, or in what v points to;
// nil if there is none. It looks at most at depth structs that are embedded in each
// other.
func embedded(v reflect.Value, depth int) net.Conn {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || depth == 0 {
		return nil
	}
	for i := range v.NumField() {
		if !v.Type().Field(i).Anonymous {
			continue
		}
		f := v.Field(i)
		if f.Type().Implements(connType) && f.CanInterface() && !isNil(f) {
			return f.Interface().(net.Conn)
		}
		if inner := embedded(f, depth-1); inner != nil {
			return inner
		}
	}
	return nil
}

func isNil(v reflect.Value) bool {
	return (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer) && v.IsNil()
}

// Socket returns the socket of a connection, plain or under TLS or another wrapper; nil if
// it cannot be reached. It is for what passes no bytes.
func Socket(c net.Conn) syscall.RawConn {
	if s, ok := Under(c).(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// Hidden reports whether the socket of a connection over TCP cannot be reached:
// [SetUserTimeout] and [SetUnsent] have no effect. It returns the innermost wrapper.
func Hidden(c net.Conn) (wrapper net.Conn, hidden bool) {
	wrapper = Under(c)
	switch wrapper.(type) {
	case syscall.Conn, userTimeouter:
		return wrapper, false
	}
	return wrapper, true
}
