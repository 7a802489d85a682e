package natsjournal_test

import (
	"testing"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/clustertest"
)

// A user who is signed out on one server loses the streams on all within a second.
func TestRevoke(t *testing.T) {
	e := startEngine(t)
	clustertest.TestRevoke(t, clustertest.Config{Open: func(*testing.T) (broadcast.Journal, func()) {
		conn := e.connect()
		return journal(conn), conn.Close
	}})
}
