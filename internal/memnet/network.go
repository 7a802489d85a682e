package memnet

import (
	"context"
	"net"
)

// Network makes connections.
type Network interface {
	// Pipe returns the two ends of a new connection.
	Pipe() (client, server net.Conn)
}

type networkKey struct{}

// WithNetwork returns a context whose requests are sent over n.
func WithNetwork(ctx context.Context, n Network) context.Context {
	return context.WithValue(ctx, networkKey{}, n)
}

// NetworkOf returns the network that a request is sent over: the one of WithNetwork,
// else preset.
func NetworkOf(ctx context.Context, preset Network) Network {
	if n, ok := ctx.Value(networkKey{}).(Network); ok {
		return n
	}
	return preset
}
