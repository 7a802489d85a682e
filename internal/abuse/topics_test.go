package abuse_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/ws"
)

// A topic of a subscription costs what docs/scaling.md says: about 150 bytes of the
// subscription, and 250 and its name where nobody else has it; on a WebSocket that has asked
// for it as well, and not what the request took.
func TestWhatTopicsCost(t *testing.T) {
	const clients, topics, length = 20, 1000, 255
	for _, test := range []struct {
		name string
		own  bool
		most int64 // for each topic
	}{
		{"shared", false, 250},
		{"own", true, 250 + length + 250},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.own {
				longtest.Only(t)
			}
			for _, path := range socketPaths {
				v := abused(t, ws.Options{MaxMessage: 1 << 20})
				request := func(i int) string {
					if !test.own {
						i = 0
					}
					names := make([]string, topics)
					for k := range names {
						names[k] = fmt.Sprintf(`"%-*s"`, length, fmt.Sprint(i, " ", k))
					}
					return `{"topics":[` + strings.Join(names, ",") + `]}`
				}
				change := func(p *peer, topics string) {
					_, err := io.WriteString(p, frame(textFrame, topics))
					require.NoError(t, err)
					for answer := ""; !strings.Contains(answer, `"topics"`); {
						_, answer, err = readFrame(p.r)
						require.NoError(t, err)
					}
				}
				kept := v.connect(t, path) // which has the shared topics
				change(kept, request(0))
				before := takeStock()
				open := make([]*peer, clients)
				for i := range open {
					open[i] = v.connect(t, path)
					change(open[i], request(i+1))
				}
				costs(t, path+" with "+test.name+" topics, each", before, clients*topics, test.most)
				for _, p := range append(open, kept) {
					p.Close()
				}
			}
		})
	}
}
