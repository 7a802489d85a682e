package endtoend_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

var (
	killRounds = flag.Int("kill.rounds", 3, "how often a server with a log in files is killed")
	killSeed   = flag.Uint64("kill.seed", 1, "seed of the moments")
)

// killedServer has the folder and the address, in the environment of the server that is killed.
const killedServer = "FANFARE_KILLED_SERVER"

// A server whose log is in files is killed at random moments, while it publishes about 5,000 messages a
// second, and starts again. Clients of both transports resume through each restart: what was
// acknowledged comes, once and in order, and there is no gap. No ID is given twice, and each Key has
// its newest value, although the log removes old segments all the time.
func TestKilledServerIsNotNoticed(t *testing.T) {
	if where := os.Getenv(killedServer); where != "" {
		serveUntilKilled(where)
		return
	}
	t.Logf("-kill.seed=%d", *killSeed)
	k := newKilled(t)
	rng := rand.New(rand.NewPCG(*killSeed, 0))
	began := time.Now()
	var published time.Duration
	for round := range *killRounds {
		d := time.Duration(50+rng.IntN(250)) * time.Millisecond
		published += d
		k.round(round, d)
		if rng.IntN(4) == 0 {
			k.tear(rng)
		}
	}
	k.finish()
	t.Logf("%d messages acknowledged in %d rounds, %v, %.0f a second while a server published; each client got %d events",
		len(k.acked), *killRounds, time.Since(began).Round(time.Second), float64(len(k.acked))/published.Seconds(), len(k.clients[0].events))
}

// killed is the folder, what was acknowledged, and the clients.
type killed struct {
	t       *testing.T
	dir     string
	addr    string
	acked   map[string]string // IDs by text
	ids     map[string]string // texts by ID
	values  map[string]string // the last value of each Key that was acknowledged
	epoch   uint64
	clients []*killedClient
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newKilled(t *testing.T) *killed {
	k := &killed{t: t, dir: t.TempDir(), acked: map[string]string{}, ids: map[string]string{}, values: map[string]string{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	k.addr = l.Addr().String()
	require.NoError(t, l.Close())
	newest := k.bounds()
	k.epoch = newest.Epoch()
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	t.Cleanup(func() { cancel(); k.running.Wait() })
	for i, path := range []string{"sse", "ws", "sse", "ws", "sse-state", "ws-state"} {
		c := &killedClient{values: map[string]string{}}
		k.clients = append(k.clients, c)
		follow := c.followSSE
		if i%2 == 1 {
			follow = c.followWS
		}
		k.running.Go(func() { follow(ctx, k.addr+"/"+path, newest) })
	}
	return k
}

func (k *killed) bounds() broadcast.ID {
	j := &filejournal.Journal{Dir: k.dir}
	_, newest, err := j.Bounds(k.t.Context())
	require.NoError(k.t, err)
	require.NoError(k.t, j.Close())
	return newest
}

func (k *killed) command(round int) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledServerIsNotNoticed$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", killedServer, k.dir, k.addr, round))
	cmd.Stderr = os.Stderr
	return cmd
}

// round runs the server, kills it a while after it has begun to publish, and notes what it said was
// acknowledged.
func (k *killed) round(round int, d time.Duration) {
	cmd := k.command(round)
	out, err := cmd.StdoutPipe()
	require.NoError(k.t, err)
	require.NoError(k.t, cmd.Start())
	var kill sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		id, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || !strings.HasSuffix(text, ".") {
			continue // the last line may be a part of one
		}
		kill.Do(func() { time.AfterFunc(d, func() { cmd.Process.Kill() }) })
		// A look-up, and not NotContains, which walks the whole map and would slow the publishers down.
		if _, given := k.ids[id]; given {
			require.Fail(k.t, "an ID that was given before", "round %d: %s", round, id)
		}
		k.ids[id], k.acked[text] = text, id
		if key, isValue := keyOf(text); isValue {
			k.values[key] = text
		}
	}
	require.Error(k.t, cmd.Wait(), "it ended before it was killed")
}

// keyOf returns the Key whose value a text is.
func keyOf(text string) (key string, ok bool) {
	fields := strings.Split(text, "/")
	return "k" + fields[1], fields[0] == "value"
}

// tear adds to the log what a write leaves that was cut off.
func (k *killed) tear(rng *rand.Rand) {
	names, err := filepath.Glob(filepath.Join(k.dir, "*.log"))
	require.NoError(k.t, err)
	slices.Sort(names)
	f, err := os.OpenFile(names[len(names)-1], os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(k.t, err)
	_, err = f.Write([]byte("\xfaFJ\n\x40\x00\x00\x00 half a record")[:rng.IntN(20)])
	require.NoError(k.t, errors.Join(err, f.Close()))
}

// finish runs a last server, and checks what the clients have when they have come to the end.
func (k *killed) finish() {
	newest := k.bounds()
	require.Equal(k.t, k.epoch, newest.Epoch(), "a new epoch, and nothing is missing")
	cmd := k.command(-1)
	require.NoError(k.t, cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	for i, c := range k.clients {
		require.Eventually(k.t, func() bool { return c.isAtEnd() }, time.Minute, 10*time.Millisecond, "client %d", i)
	}
	k.cancel()
	k.running.Wait()
	for i, c := range k.clients {
		require.Empty(k.t, c.faults, "client %d", i)
		seen := map[string]bool{}
		next := map[string]int{}
		for _, text := range c.events {
			require.False(k.t, seen[text], "client %d got %q twice", i, text)
			seen[text] = true
			by, number := text[:strings.LastIndex(text, "/")], text[strings.LastIndex(text, "/")+1:len(text)-1]
			n, err := strconv.Atoi(number)
			require.NoError(k.t, err)
			require.GreaterOrEqual(k.t, n, next[by], "client %d: the order of %s", i, by)
			next[by] = n + 1
		}
		for text := range k.acked {
			_, isValue := keyOf(text)
			require.True(k.t, isValue || seen[text], "client %d lacks %q, which was acknowledged", i, text)
		}
		for key, text := range k.values {
			require.GreaterOrEqual(k.t, roundAndNumber(c.values[key]), roundAndNumber(text), "client %d: %s is %q, and %q was acknowledged", i, key, c.values[key], text)
		}
	}
}

// roundAndNumber orders the values of a Key.
func roundAndNumber(text string) int {
	var round, number int
	fields := strings.Split(strings.TrimSuffix(text, "."), "/")
	if len(fields) == 4 {
		round, _ = strconv.Atoi(fields[2])
		number, _ = strconv.Atoi(fields[3])
	}
	return round<<32 + number
}

// killedClient is what a client has got.
type killedClient struct {
	mu     sync.Mutex
	events []string
	values map[string]string
	faults []string
}

// theEnd is what the last server publishes.
const theEnd = "event/end/0/0."

func (c *killedClient) isAtEnd() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.faults) > 0 || len(c.events) > 0 && c.events[len(c.events)-1] == theEnd
}

func (c *killedClient) got(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key, ok := keyOf(text); ok {
		c.values[key] = text
	} else {
		c.events = append(c.events, text)
	}
}

func (c *killedClient) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *killedClient) followSSE(ctx context.Context, at string, after broadcast.ID) {
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"?heartbeat=1", nil)
	r.Header.Set("Last-Event-ID", after.String())
	client := &sse.Client{MaxBackoff: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	for e, err := range client.Events(r) {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.fault("%v", err)
		case e.Type == "gap", e.Type == "begin":
			c.fault("%s %s", e.Type, e.Data)
		case len(e.Data) > 0 && e.Type == "m":
			c.got(string(e.Data))
		}
	}
}

func (c *killedClient) followWS(ctx context.Context, at string, after broadcast.ID) {
	client := &ws.Client{URL: "ws://" + at, After: after, MaxBackoff: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	for m, err := range client.Messages(ctx) {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.fault("%v", err)
		default:
			c.got(string(m.Data))
		}
	}
}

// serveUntilKilled is the server's process. In a round that is not negative it publishes all the time.
func serveUntilKilled(where string) {
	fields := strings.Fields(where)
	dir, addr, round := fields[0], fields[1], fields[2]
	hub := &broadcast.Hub{Keep: 16_384, Journal: &filejournal.Journal{Dir: dir, MaxBytes: 8 << 20}}
	go hub.Run(context.Background())
	quiet := slog.New(slog.DiscardHandler)
	topics := []string{"events", "values"}
	mux := http.NewServeMux()
	state := func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: topics, Beginning: true}, nil
	}
	mux.Handle("/sse", &sse.Handler{Broadcaster: hub, Topics: topics, Logger: quiet})
	mux.Handle("/ws", &ws.Handler{Broadcaster: hub, Topics: topics, Logger: quiet})
	mux.Handle("/sse-state", &sse.Handler{Broadcaster: hub, Grant: state, Logger: quiet, Detach: true})
	mux.Handle("/ws-state", &ws.Handler{Broadcaster: hub, Grant: state, Logger: quiet, Detach: true})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		panic(err)
	}
	go (&http.Server{Handler: mux, ConnContext: sse.ConnContext}).Serve(l)
	if round == "-1" {
		hub.Publish(context.Background(), broadcast.Message{Topic: "events", Type: "m", Data: []byte(theEnd)})
		select {}
	}
	const publishers, rate = 8, 7_500
	began := time.Now()
	for p := range publishers {
		go func() {
			for n := 0; ; n++ {
				time.Sleep(time.Until(began.Add(time.Duration(n) * publishers * time.Second / rate)))
				m := broadcast.Message{Topic: "events", Type: "m", Data: fmt.Appendf(nil, "event/%d/%s/%d.", p, round, n)}
				if n%8 == 0 {
					m = broadcast.Message{Topic: "values", Type: "m", Key: fmt.Sprint("k", p), Data: fmt.Appendf(nil, "value/%d/%s/%d.", p, round, n)}
				}
				id, err := hub.Publish(context.Background(), m)
				if err != nil {
					panic(err)
				}
				fmt.Fprintf(os.Stdout, "%s %s\n", id, m.Data)
			}
		}()
	}
	select {}
}
