package clustertest_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	ct "github.com/fanfare-go/fanfare/internal/clustertest"
	"github.com/fanfare-go/fanfare/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

var errAway = errors.New("the engine is away")

// Servers on the journal in memory, which the tests of the engines are compared with.
func TestInMemory(t *testing.T) {
	var engine broadcasttest.Journal
	restart := func(*testing.T) { engine.Restart() }
	ct.Test(t, ct.Config{
		Open:   func(*testing.T) (broadcast.Journal, func()) { n := engine.Node(); return n, func() { n.Fail(errAway) } },
		Faults: []func(*testing.T){restart, restart},
	})
}

// memory is a journal in memory whose nodes can be reached.
type memory struct {
	engine broadcasttest.Journal

	mu    sync.Mutex // guards nodes
	nodes []*broadcasttest.Journal
}

func (m *memory) open(*testing.T) (broadcast.Journal, func()) {
	n := m.engine.Node()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes = append(m.nodes, n)
	return n, func() { n.Fail(errAway) }
}

// fail lets the calls of the first three nodes fail, or no longer.
func (m *memory) fail(err error) {
	for _, n := range m.nodes[:3] {
		n.Fail(err)
	}
}

// Scenarios of the journal in memory, which those of the engines are compared with.
func TestScenariosInMemory(t *testing.T) {
	ct.Scenarios{
		{"engine away for a while", func(t *testing.T) {
			var m memory
			ct.Run(t, ct.Config{Open: m.open}, func(s *ct.Scenario) {
				s.EngineAway()
				m.fail(errAway)
				s.Following(false)
				s.Refuses()
				m.fail(nil)
				s.EngineBack()
				s.Arrives("after the engine is back")
			})
		}},
		{"engine created anew", func(t *testing.T) {
			var m memory
			ct.Run(t, ct.Config{Open: m.open, Loses: true}, func(s *ct.Scenario) {
				before := s.Newest()
				m.engine.Recreate()
				s.Leaves(before)
				s.Arrives("in the new epoch")
			})
		}},
		{"entries lost behind a tail that is held", func(t *testing.T) {
			var m memory
			ct.Run(t, ct.Config{Open: m.open, Loses: true}, func(s *ct.Scenario) {
				s.MoveTo(0)
				s.Arrives("from one server")
				s.Mute(0)
				m.nodes[0].Hold()
				s.Published()
				m.engine.Trim(20)
				m.nodes[0].Release()
				s.Unmute()
				s.Arrives("after the loss")
				s.MoveAnywhere()
			})
		}},
		{"servers that crash and stop", func(t *testing.T) {
			var m memory
			ct.Run(t, ct.Config{Open: m.open}, func(s *ct.Scenario) {
				s.Crash(0)
				s.Start(0)
				s.Stop(1, 2)
				s.Start(1, 2)
				s.Arrives("after the servers were replaced")
				s.Following(true)
			})
		}},
		{"a server that follows again as the scenario ends", func(t *testing.T) {
			var m memory
			ct.Run(t, ct.Config{Open: m.open}, func(s *ct.Scenario) {
				s.MoveTo(1)
				s.Mute(0)
				m.nodes[0].Fail(errAway)
				back := time.AfterFunc(time.Second, func() { m.nodes[0].Fail(nil) })
				t.Cleanup(func() { back.Stop() })
			})
		}},
	}.Run(t)
}
