package ws

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/status"
)

// StatusCode is the status code of a close frame (RFC 6455 section 7.4).
type StatusCode int

// The codes of the IANA registry. 1004 is reserved and has no name. Libraries and
// applications register 3000 to 3999; 4000 to 4999 are for private use.
const (
	StatusNormalClosure           StatusCode = 1000 // the purpose is fulfilled
	StatusGoingAway               StatusCode = 1001 // a server goes down, or a browser leaves the page
	StatusProtocolError           StatusCode = 1002 // what came is not the WebSocket protocol
	StatusUnsupportedData         StatusCode = 1003 // a type of message that is not accepted
	StatusNoStatusReceived        StatusCode = 1005 // never sent: the close frame had none
	StatusAbnormalClosure         StatusCode = 1006 // never sent: there was no close frame
	StatusInvalidFramePayloadData StatusCode = 1007 // text that is not UTF-8
	StatusPolicyViolation         StatusCode = 1008 // a message violates a policy, and no other code fits
	StatusMessageTooBig           StatusCode = 1009 // a message is larger than the receiver accepts
	StatusMandatoryExtension      StatusCode = 1010 // sent by clients: the server lacks an extension
	StatusInternalError           StatusCode = 1011 // the server failed
	StatusServiceRestart          StatusCode = 1012 // connect again, soon
	StatusTryAgainLater           StatusCode = 1013 // connect again, but not too soon
	StatusBadGateway              StatusCode = 1014 // sent by proxies: the response of the upstream server is invalid
	StatusTLSHandshake            StatusCode = 1015 // never sent: TLS failed
	StatusUnauthorized            StatusCode = 3000 // credentials are missing, or have expired
	StatusForbidden               StatusCode = 3003 // the client is not allowed to do this
	StatusTimeout                 StatusCode = 3008 // the peer took too long
)

// sendable reports whether a close frame may carry the code.
func (c StatusCode) sendable() bool { return status.Sendable(int(c)) }

// CloseError is why a WebSocket was closed: the peer sent a close frame, or was sent one
// for a message that is not allowed. Code is StatusNoStatusReceived if the peer's close
// frame has no code.
type CloseError struct {
	Code   StatusCode // of the close frame
	Reason string     // UTF-8, at most 123 bytes on the wire
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("ws: closed with status %d", e.Code)
	}
	return fmt.Sprintf("ws: closed with status %d: %s", e.Code, e.Reason)
}

// CloseStatus returns the Code of the [CloseError] in err, or -1 if there is none.
func CloseStatus(err error) StatusCode {
	if closed, ok := errors.AsType[*CloseError](err); ok {
		return closed.Code
	}
	return -1
}

// maxReason is how many bytes of a control frame's payload are left beside the code (RFC
// 6455 section 5.5).
const maxReason = 125 - 2

// truncate cuts a reason to maxReason bytes, between two runes.
func truncate(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(reason[n]) {
		n--
	}
	return reason[:n]
}
