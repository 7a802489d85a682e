package filejournal_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

var (
	killRounds = flag.Int("kill.rounds", 5, "how often the process that publishes is killed")
	killSeed   = flag.Uint64("kill.seed", 1, "seed of the moments")
)

// publisherDir names the folder, in the environment of the test that publishes until it is
// killed.
const publisherDir = "FILEJOURNAL_PUBLISHER_DIR"

// Nothing that was acknowledged is lost when the process is killed, and no ID is given twice.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(publisherDir); dir != "" {
		publishUntilKilled(t, dir)
		return
	}
	rng := rand.New(rand.NewPCG(*killSeed, 0))
	t.Logf("-kill.seed=%d", *killSeed)
	dir := t.TempDir()
	acked := map[string]string{} // texts by ID
	var epoch uint64
	for round := range *killRounds {
		for id, text := range killedAfter(t, dir, time.Duration(20+rng.IntN(100))*time.Millisecond, round) {
			require.NotContains(t, acked, id, "round %d: an ID that was given before", round)
			acked[id] = text
		}
		j := &filejournal.Journal{Dir: dir}
		_, newest, err := j.Bounds(t.Context())
		require.NoError(t, err)
		if epoch == 0 {
			epoch = newest.Epoch()
		}
		require.Equal(t, epoch, newest.Epoch(), "round %d: a new epoch, and nothing is missing", round)
		there := map[string]string{}
		for m, err := range j.Tail(t.Context(), broadcast.ID{}) {
			require.NoError(t, err)
			there[m.ID.String()] = string(m.Data)
			if m.ID == newest {
				break
			}
		}
		for id, text := range acked {
			require.Equal(t, text, there[id], "round %d: %s", round, id)
		}
		require.NoError(t, j.Close())
	}
	require.NotEmpty(t, acked)
	t.Logf("%d messages were acknowledged", len(acked))
}

// killedAfter runs a process that publishes, kills it a while after its first message, and
// returns what it said was acknowledged.
func killedAfter(t *testing.T, dir string, d time.Duration, round int) map[string]string {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), publisherDir+"="+dir, "FILEJOURNAL_ROUND="+strconv.Itoa(round))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	acked := map[string]string{}
	var kill sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		id, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || !strings.Contains(id, "-") {
			continue // the last line may be a part of one
		}
		kill.Do(func() { time.AfterFunc(d, func() { cmd.Process.Kill() }) })
		acked[id] = text
	}
	require.Error(t, cmd.Wait(), "it ended before it was killed")
	return acked
}

func publishUntilKilled(t *testing.T, dir string) {
	hub := &broadcast.Hub{Journal: &filejournal.Journal{Dir: dir}}
	go hub.Run(context.Background())
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				text := fmt.Sprintf("%s/%d/%d.", os.Getenv("FILEJOURNAL_ROUND"), p, n)
				id, err := hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: []byte(text)})
				require.NoError(t, err)
				fmt.Fprintf(os.Stdout, "%s %s\n", id, text)
			}
		})
	}
	wg.Wait()
}
