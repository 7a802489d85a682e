package diagnosis

import (
	"context"
	"fmt"
	"time"
)

// Deadline returns an error if the request's context has a deadline, which would end the
// stream.
func Deadline(ctx context.Context) error {
	at, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	return fmt.Errorf("the request's context ends after %v, and the stream with it: a timeout middleware is the usual cause; "+
		"mount the stream outside of it, or middleware.Bypass outside of both", time.Until(at).Round(10*time.Millisecond))
}
