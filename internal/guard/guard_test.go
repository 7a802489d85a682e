package guard_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/guard"
)

func TestCall(t *testing.T) {
	failed := errors.New("failed")
	assert.NoError(t, guard.Call("f", func() error { return nil }))
	assert.Equal(t, failed, guard.Call("f", func() error { return failed }), "an error is returned as it is")

	err := guard.Call("Handler.Encode", func() error { panic("no such room") })
	var panicked *guard.PanicError
	require.ErrorAs(t, err, &panicked)
	assert.Equal(t, "no such room", panicked.Value)
	assert.Contains(t, err.Error(), "panic in Handler.Encode: no such room")
	assert.Contains(t, err.Error(), "guard_test.go", "the stack names the function that panicked")
}
