package main

import (
	"errors"
	"net/http"
	"strings"

	"github.com/fanfare-go/fanfare/ws"
)

// notChecked is what a check reports that would open the stream once more, with a ticket that
// the first stream has spent.
const notChecked = "not checked: a ticket is good for one stream; check with -H, or a URL without tickets"

// hasTicket reports whether the requests carry a ticket, where middleware.Tickets looks for it.
func (t *target) hasTicket() bool {
	for _, line := range t.header.Values("Sec-Websocket-Protocol") {
		for protocol := range strings.SplitSeq(line, ",") {
			if strings.HasPrefix(strings.TrimSpace(protocol), "ticket.") {
				return true
			}
		}
	}
	return t.url.Query().Has("ticket")
}

// hint completes the fault of a stream that is refused with 401.
func (t *target) hint() string {
	if t.hasTicket() {
		return "; the ticket was used already, or has expired"
	}
	return ""
}

// isUnauthorized reports whether a WebSocket was refused with 401, or with the close frame that
// stands for it.
func isUnauthorized(err error) bool {
	if refused, ok := errors.AsType[*ws.HandshakeError](err); ok {
		return refused.Status == http.StatusUnauthorized
	}
	closed, ok := errors.AsType[*ws.CloseError](err)
	return ok && closed.Code == 3000 && closed.Reason == "unauthorized"
}
