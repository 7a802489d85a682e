// Package deafpeer lets a peer vanish, for tests over real TCP: a pipe has no
// acknowledgements that could fail to come.
package deafpeer
