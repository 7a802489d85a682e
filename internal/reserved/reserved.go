// Package reserved has the types that a message cannot have.
package reserved

// Type reports whether clients get events of this type from somewhere else than a message: a
// stream sends gap, begin and ended itself, an EventSource fires open and error, and
// fanfare.js fires statechange. A message of such a type could not be told from them.
func Type(typ string) bool {
	switch typ {
	case "gap", "begin", "ended", "open", "error", "statechange":
		return true
	}
	return false
}
