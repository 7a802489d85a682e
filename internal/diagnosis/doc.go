// Package diagnosis checks what middleware has done to a request on its way to a stream:
// ssetest.Diagnose and wstest.Diagnose share it.
package diagnosis
