package middleware

import "context"

type identityKey struct{}

// Identity returns whose ticket a request has redeemed; "" if it has redeemed none.
func Identity(ctx context.Context) string {
	identity, _ := ctx.Value(identityKey{}).(string)
	return identity
}
