// Package jsontext makes JSON of values whose text must arrive as it is.
package jsontext

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"unicode/utf8"
)

// ErrNotUTF8 is the error of Marshal for a string that is not UTF-8.
var ErrNotUTF8 = errors.New("a string is not UTF-8: send it in another encoding, such as base64")

// Marshal is json.Marshal, except that it refuses strings that are not UTF-8, of which
// json.Marshal would make others.
func Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	switch {
	case err != nil:
		return nil, err
	case !utf8.Valid(b): // by a Marshaler
		return nil, ErrNotUTF8
	case bytes.Contains(b, replaced) && new(search).finds(reflect.ValueOf(v)):
		return nil, ErrNotUTF8
	}
	return b, nil
}

// replaced is what json.Marshal writes for a byte that is not UTF-8. A U+FFFD that was in
// a string already is not escaped, but JSON that a Marshaler made may have this, too.
var replaced = []byte(`\ufffd`)

// search looks for text that is not UTF-8 in what json.Marshal has encoded.
type search struct{ seen map[seen]bool }

// seen is a pointer, a map or a slice. Only what a Marshaler encodes can have cycles.
type seen struct {
	at  uintptr
	len int
	typ reflect.Type
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func (s *search) finds(v reflect.Value) bool {
	if !v.IsValid() {
		return false
	}
	own := v.Type().Implements(marshaler) || v.CanAddr() && v.Addr().Type().Implements(marshaler)
	if !own {
		if text, ok := textOf(v); ok {
			return !utf8.Valid(text)
		}
	}
	switch v.Kind() {
	case reflect.String:
		return !utf8.ValidString(v.String())
	case reflect.Interface:
		return s.finds(v.Elem())
	case reflect.Pointer:
		return s.first(v, 0) && s.finds(v.Elem())
	case reflect.Struct:
		return s.findsInFields(v, own)
	case reflect.Map:
		return s.first(v, v.Len()) && s.findsInMap(v)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			// Base64, unless a Marshaler takes it for text.
			return own && v.Kind() == reflect.Slice && !utf8.Valid(v.Bytes())
		}
		if v.Kind() == reflect.Slice && !s.first(v, v.Len()) {
			return false
		}
		for i := range v.Len() {
			if s.finds(v.Index(i)) {
				return true
			}
		}
	}
	return false
}

// findsInFields looks at the fields that json.Marshal encodes, or at all of them if the
// struct has its own way to encode them.
func (s *search) findsInFields(v reflect.Value, all bool) bool {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		encoded := (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-"
		if (all || encoded) && s.finds(v.Field(i)) {
			return true
		}
	}
	return false
}

func (s *search) findsInMap(v reflect.Value) bool {
	for entries := v.MapRange(); entries.Next(); {
		if s.finds(entries.Key()) || s.finds(entries.Value()) {
			return true
		}
	}
	return false
}

// first reports whether what v points to has not been looked at. If v is nil, there is
// nothing to look at.
func (s *search) first(v reflect.Value, length int) bool {
	at := seen{v.Pointer(), length, v.Type()}
	if v.IsNil() || s.seen[at] {
		return false
	}
	if s.seen == nil {
		s.seen = make(map[seen]bool)
	}
	s.seen[at] = true
	return true
}

// textOf returns the text of a TextMarshaler.
func textOf(v reflect.Value) (text []byte, ok bool) {
	if !v.CanInterface() {
		return nil, false
	}
	if !v.Type().Implements(textMarshaler) {
		if !v.CanAddr() || !v.Addr().Type().Implements(textMarshaler) {
			return nil, false
		}
		v = v.Addr()
	}
	if (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil() {
		return nil, false
	}
	text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
	return text, err == nil
}
