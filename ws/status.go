package ws

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/status"
)

// StatusCode says why a WebSocket was closed (RFC 6455 section 7.4).
type StatusCode int

// The codes of the IANA registry. 1004 is reserved and has no name. 3000 to 3999
// are registered by libraries and applications, 4000 to 4999 are free for private
// use.
const (
	StatusNormalClosure           StatusCode = 1000 // all is done
	StatusGoingAway               StatusCode = 1001 // a server goes down, or a browser leaves the page
	StatusProtocolError           StatusCode = 1002 // what came is not the WebSocket protocol
	StatusUnsupportedData         StatusCode = 1003 // text where only binary is taken, or the other way
	StatusNoStatusReceived        StatusCode = 1005 // never sent: the close frame had none
	StatusAbnormalClosure         StatusCode = 1006 // never sent: there was no close frame
	StatusInvalidFramePayloadData StatusCode = 1007 // text that is not UTF-8
	StatusPolicyViolation         StatusCode = 1008 // what came is not wanted, and nothing else fits
	StatusMessageTooBig           StatusCode = 1009 // more than the receiver takes
	StatusMandatoryExtension      StatusCode = 1010 // sent by clients: the server lacks an extension
	StatusInternalError           StatusCode = 1011 // the server failed
	StatusServiceRestart          StatusCode = 1012 // come back, soon
	StatusTryAgainLater           StatusCode = 1013 // come back, not too soon
	StatusBadGateway              StatusCode = 1014 // sent by proxies: what the server answered is invalid
	StatusTLSHandshake            StatusCode = 1015 // never sent: TLS failed
	StatusUnauthorized            StatusCode = 3000 // credentials are missing, or have expired
	StatusForbidden               StatusCode = 3003 // the client may not have this
	StatusTimeout                 StatusCode = 3008 // the peer took too long
)

// sendable reports whether a close frame may carry the code.
func (c StatusCode) sendable() bool { return status.Sendable(int(c)) }

// CloseError is how a WebSocket ended: with the status that the peer sent, or
// that it was sent for what it did. StatusNoStatusReceived stands for a close
// frame without one.
type CloseError struct {
	Code   StatusCode // as the close frame has it
	Reason string     // UTF-8, at most 123 bytes on the wire
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("ws: closed with status %d", e.Code)
	}
	return fmt.Sprintf("ws: closed with status %d: %s", e.Code, e.Reason)
}

// CloseStatus returns the code of the [CloseError] in err, -1 if there is none.
func CloseStatus(err error) StatusCode {
	if closed, ok := errors.AsType[*CloseError](err); ok {
		return closed.Code
	}
	return -1
}

const maxReason = 125 - 2 // what a control frame can hold beside the code

// fit cuts a reason to what a close frame can hold, between two runes.
func fit(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(reason[n]) {
		n--
	}
	return reason[:n]
}
