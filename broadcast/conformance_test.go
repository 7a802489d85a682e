package broadcast_test

import (
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

const conformanceKeep, conformanceValues = 16, 14

func TestHubConforms(t *testing.T) {
	open := func(t *testing.T) broadcast.Broadcaster {
		hub := &broadcast.Hub{Keep: conformanceKeep, Values: conformanceValues}
		t.Cleanup(func() { hub.Close() })
		return hub
	}
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{
		Open: open,
		Keep: conformanceKeep, Values: conformanceValues,
		Restart: func(t *testing.T, old broadcast.Broadcaster) broadcast.Broadcaster {
			require.NoError(t, old.(*broadcast.Hub).Close())
			return open(t)
		},
	})
}

func TestHubOnJournalConforms(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, journal broadcast.Journal) broadcast.Broadcaster {
		hub := &broadcast.Hub{Keep: conformanceKeep, Values: conformanceValues, Journal: journal}
		ended := make(chan error, 1)
		go func() { ended <- hub.Run(t.Context()) }()
		t.Cleanup(func() {
			hub.Close()
			<-ended
		})
		waitForPosition(t, hub)
		return hub
	}
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{
		Open: func(t *testing.T) broadcast.Broadcaster { return open(t, &broadcasttest.Journal{}) },
		Keep: conformanceKeep, Values: conformanceValues,
		Restart: func(t *testing.T, old broadcast.Broadcaster) broadcast.Broadcaster {
			hub := old.(*broadcast.Hub)
			require.NoError(t, hub.Close())
			return open(t, hub.Journal)
		},
	})
}

// waitForPosition waits until the Hub knows the position of its log.
func waitForPosition(t *testing.T, hub *broadcast.Hub) {
	t.Helper()
	news := make(chan struct{}, 1)
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"ready"}, Notify: func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}})
	require.NoError(t, err)
	defer sub.Close()
	tooLong := time.NewTimer(10 * time.Second)
	defer tooLong.Stop()
	for {
		_, err := sub.Poll(make([]*broadcast.Message, 1))
		require.NotErrorIs(t, err, broadcast.ErrClosed)
		if sub.Position().Epoch() > 1 {
			return
		}
		select {
		case <-news:
		case <-tooLong.C:
			require.Fail(t, "the Hub still does not know the position of its journal")
		}
	}
}

func TestJournalConforms(t *testing.T) {
	broadcasttest.TestJournal(t, func(*testing.T) broadcast.Journal { return &broadcasttest.Journal{} })
}

func TestJournalNodeConforms(t *testing.T) {
	broadcasttest.TestJournal(t, func(*testing.T) broadcast.Journal { return new(broadcasttest.Journal).Node() })
}

// The list in broadcasttest's documentation and the cases that check it have the same names
// and rules.
func TestRulesAreCases(t *testing.T) {
	documented, checked := documentedRules(t), checkedRules(t)
	require.NotEmpty(t, documented)
	assert.Equal(t, documented, checked)
}

// documentedRules reads the list in the documentation of broadcasttest.
func documentedRules(t *testing.T) []string {
	file, err := parser.ParseFile(token.NewFileSet(), "broadcasttest/doc.go", nil, parser.ParseComments)
	require.NoError(t, err)
	var rules []string
	for _, block := range new(comment.Parser).Parse(file.Doc.Text()).Content {
		list, ok := block.(*comment.List)
		if !ok {
			continue
		}
		for _, item := range list.Items {
			text := new(comment.Printer).Text(&comment.Doc{Content: item.Content})
			rules = append(rules, strings.Join(strings.Fields(string(text)), " "))
		}
	}
	return rules
}

// checkedRules reads the tables of cases, each of which begins with its name and its rule.
func checkedRules(t *testing.T) []string {
	var rules []string
	for _, table := range [][2]string{{"broadcaster.go", "broadcasterCases"}, {"state.go", "stateCases"}} {
		file, err := parser.ParseFile(token.NewFileSet(), "broadcasttest/"+table[0], nil, 0)
		require.NoError(t, err)
		for _, row := range file.Scope.Lookup(table[1]).Decl.(*ast.ValueSpec).Values[0].(*ast.CompositeLit).Elts {
			var texts []string
			for _, value := range row.(*ast.CompositeLit).Elts[:2] {
				text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				require.NoError(t, err)
				texts = append(texts, text)
			}
			rules = append(rules, strings.Join(texts, ": "))
		}
	}
	return rules
}
