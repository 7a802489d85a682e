package clustertest_test

import (
	"errors"
	"testing"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/internal/clustertest"
	"github.com/fanfare-go/fanfare/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// Servers on the journal in memory, which the tests of the engines are compared with.
func TestInMemory(t *testing.T) {
	var engine broadcasttest.Journal
	away := errors.New("the engine is away")
	restart := func(*testing.T) { engine.Restart() }
	clustertest.Test(t, clustertest.Config{
		Open:   func(*testing.T) (broadcast.Journal, func()) { n := engine.Node(); return n, func() { n.Fail(away) } },
		Faults: []func(*testing.T){restart, restart},
	})
}
