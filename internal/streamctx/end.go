package streamctx

// End says how a middleware wants streams to end. The zero End ends them in good
// order after all messages that are pending, a WebSocket with 1012.
type End struct {
	// Code is the close code of a WebSocket, and Reason the text that goes with it.
	Code   int
	Reason string

	// Cut closes the connection at once, and nothing more is written.
	Cut bool
}
