package wrappers

import (
	"net/http"
	"reflect"
)

// Sent returns the final status that has reached net/http's own ResponseWriter under w,
// 0 for none yet. It reports false if w does not lead there.
//
// A wrapper may keep a status to itself, for instance until it knows whether to
// compress, and nothing of net/http's interface says whether it has. So the status is
// read where net/http keeps it. If a later version keeps it elsewhere, Sent reports
// false.
func Sent(w http.ResponseWriter) (status int, known bool) {
	all := All(w)
	return sent(reflect.ValueOf(all[len(all)-1]), 0)
}

// maxDepth bounds how many pointers and fields are followed, for wrappers that wrap each
// other in a circle.
const maxDepth = 64

// sent looks in a wrapper without Unwrap for what it wraps.
func sent(v reflect.Value, depth int) (status int, known bool) {
	if depth > maxDepth {
		return 0, false
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			return sent(v.Elem(), depth+1)
		}
	case reflect.Struct:
		if t := v.Type(); t.PkgPath() == "net/http" && t.Name() == "response" {
			status := v.FieldByName("status")
			if status.Kind() != reflect.Int {
				return 0, false
			}
			return int(status.Int()), true
		}
		for i := range v.NumField() {
			if field := v.Field(i); isWriter(field.Type()) {
				if status, known := sent(field, depth+1); known {
					return status, true
				}
			}
		}
	}
	return 0, false
}

var writer = reflect.TypeFor[http.ResponseWriter]()

func isWriter(t reflect.Type) bool {
	return t.Implements(writer) || reflect.PointerTo(t).Implements(writer)
}
