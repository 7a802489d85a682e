package streamctx

// End says how a middleware wants streams to end. The zero End ends them in good
// order after all messages that are pending, a WebSocket with 1012.
type End struct {
	// Code is the close code of a WebSocket, and Reason the text that goes with it.
	Code   int
	Reason string

	// Cut closes the connection at once, and nothing more is written.
	Cut bool

	// Finish lets answers that come to an end by themselves do so: an sse.Writer and the
	// context of a request that is no stream go on.
	Finish bool

	// Cause is the cause of the context that a request's handlers have, if the request
	// is no stream and its context ends.
	Cause error
}
