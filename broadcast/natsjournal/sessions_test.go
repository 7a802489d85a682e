package natsjournal_test

import (
	"testing"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/clustertest"
)

// sessionsConfig opens journals on an engine of the test's own.
func sessionsConfig(t *testing.T) clustertest.Config {
	e := startEngine(t)
	return clustertest.Config{Open: func(*testing.T) (broadcast.Journal, func()) {
		conn := e.connect()
		return journal(conn), conn.Close
	}}
}

// A user who is signed out on one server loses the streams on all within a second.
func TestRevoke(t *testing.T) { clustertest.TestRevoke(t, sessionsConfig(t)) }

// A ticket that is redeemed on several servers at the same moment lets in once.
func TestTickets(t *testing.T) { clustertest.TestTickets(t, sessionsConfig(t)) }
