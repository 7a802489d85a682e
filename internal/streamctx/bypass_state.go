package streamctx

// bypassState says who may use the server's ResponseWriter of one request.
type bypassState int

const (
	// unanswered: the handlers may use the writer, and nothing final has been sent
	// through it. A stream may claim it. An informational response (1xx) or a
	// deadline does not change that.
	unanswered bypassState = iota

	// answered: the handlers have sent the response, or a part of it, or have
	// hijacked the connection. They may go on using the writer, and no stream can
	// claim it any more. The state goes back to unanswered only if the server says
	// that it does not support what was tried, since nothing was sent then.
	answered

	// claimed: a stream has the writer to itself. What the handlers write is dropped,
	// such as the late answer of a timeout.
	claimed

	// closed: the handlers have returned. Nothing can be written or claimed any
	// more; a stream that claimed the writer before keeps it until it leaves.
	closed
)

// writable reports whether the handlers may use the server's writer.
func (s bypassState) writable() bool { return s == unanswered || s == answered }
