package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// The state that is measured: prices of which some change all the time.
const (
	stateKeys    = 10_000
	stateHot     = 100 // of which half of the changes are
	stateRate    = 5000
	stateFast    = 200
	stateSlow    = 20
	stateSlowBps = 40 << 10 // what a slow reader reads in a second
	stateSize    = 64       // of a message
)

// stateReport is what the readers of the state have seen.
type stateReport struct {
	Fast, Slow stateReaders
	Oldest     []time.Duration // at the slow ones in each second: since when the oldest value is not the newest
	Wrong      int             // values that the slow ones show at the end and that are not the newest, for each reader
}

type stateReaders struct {
	Bytes, Values, Gaps, Begins int
}

// measureState reports what readers that keep up and slow ones get of 10,000 Keys, and beside it of
// the same messages without Keys.
func measureState(out io.Writer, seconds int) error {
	fmt.Fprintf(out, "%d keys, %d changes a second for %d s, half of them of %d hot keys; %d readers that keep up, %d that read %d KB/s.\n\n",
		stateKeys, stateRate, seconds, stateHot, stateFast, stateSlow, stateSlowBps>>10)
	fmt.Fprintln(out, "| | MB to each that keeps up | MB to each slow one | values to each slow one | gaps and begins of each | CPU per value sent, us | oldest value at the slow ones, s: median, worst | wrong at the end |\n|---|---|---|---|---|---|---|---|")
	for _, kind := range []string{"without", "with keys"} {
		fmt.Fprintln(os.Stderr, "state", kind)
		r, used, err := runState(kind, seconds)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		each := func(n, of int) float64 { return float64(n) / float64(of) }
		slices.Sort(r.Oldest)
		fmt.Fprintf(out, "| %s | %.1f | %.2f | %.0f | %.1f | %.2f | %.1f, %.1f | %d |\n", kind,
			each(r.Fast.Bytes, stateFast)/1e6, each(r.Slow.Bytes, stateSlow)/1e6, each(r.Slow.Values, stateSlow), each(r.Slow.Gaps+r.Slow.Begins, stateSlow),
			float64(used.CPU.Nanoseconds())/1000/float64(r.Fast.Values+r.Slow.Values),
			r.Oldest[len(r.Oldest)/2].Seconds(), r.Oldest[len(r.Oldest)-1].Seconds(), r.Wrong)
	}
	return nil
}

func runState(kind string, seconds int) (r stateReport, used usage, err error) {
	server, addr, err := start("0", "-serve-state", kind)
	if err != nil {
		return r, used, err
	}
	defer server.end()
	if _, err = server.do(order{Publish: stateKeys}); err != nil { // each has a value
		return r, used, err
	}
	receiver, _, err := start("1", "-receive-state", addr)
	if err != nil {
		return r, used, err
	}
	defer receiver.end()
	before, err := server.do(order{})
	if err != nil {
		return r, used, err
	}
	if err = receiver.send(strconv.Itoa(seconds)); err != nil {
		return r, used, err
	}
	if _, err = server.do(order{Publish: seconds * stateRate, Every: time.Second / stateRate}); err != nil {
		return r, used, err
	}
	if err = receiver.read(&r); err != nil {
		return r, used, err
	}
	after, err := server.do(order{})
	used.CPU = after.CPU - before.CPU
	return r, used, err
}

// serveState is the server process. Its orders say how many messages to publish; the first gives
// each key a value.
func serveState(kind string) error {
	hub := new(broadcast.Hub)
	keys := kind == "with keys"
	// The machine is shared: nobody is to be cut because the readers' process had no time.
	h := &sse.Handler{Broadcaster: hub, Detach: true, Options: sse.Options{WriteTimeout: time.Minute}, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"prices"}, Beginning: keys}, nil
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, h)
	fmt.Println(l.Addr())
	out, in := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	versions := make([]int, stateKeys)
	random := rand.New(rand.NewPCG(1, 2))
	for first := true; ; {
		var o order
		if err := in.Decode(&o); err != nil {
			return nil // the parent has ended
		}
		began := time.Now()
		for i := range o.Publish {
			time.Sleep(time.Until(began.Add(time.Duration(i) * o.Every)))
			key := i
			switch {
			case first:
			case i%2 == 0:
				key = random.IntN(stateHot)
			default:
				key = random.IntN(stateKeys)
			}
			versions[key]++
			m := broadcast.Message{Topic: "prices", Data: statePayload(key, versions[key])}
			if keys {
				m.Key = strconv.Itoa(key)
			}
			if _, err := hub.Publish(context.Background(), m); err != nil {
				return err
			}
		}
		first = first && o.Publish == 0
		if err := out.Encode(measure(o)); err != nil {
			return err
		}
	}
}

// statePayload returns a message that begins with a mark, and has the key, which version of its
// value this is, and the time.
func statePayload(key, version int) []byte {
	b := fmt.Appendf(make([]byte, 0, stateSize), "@%05d %07d %016x ", key, version, time.Now().UnixNano())
	for len(b) < stateSize {
		b = append(b, 'x')
	}
	return b
}
