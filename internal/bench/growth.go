package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// grow reports how the cost of this kit grows with the number of subscribers and the size of
// messages, over real connections, and with the number of topics, in a hub alone.
func grow(out io.Writer) error {
	fmt.Fprintln(out, "| subscribers | messages of | burst, M deliveries/s | CPU each, us | lost |\n|---|---|---|---|---|")
	for _, w := range []struct{ subscribers, size, messages int }{
		{1, 128, 100_000}, {10, 128, 30_000}, {100, 128, 3000}, {1000, 128, 300}, {10_000, 128, 300},
		{1000, 16, 300}, {1000, 1024, 300}, {1000, 8192, 100}, {1000, 65_536, 30},
	} {
		s := suite{subscribers: w.subscribers, size: w.size, burst: min(w.messages, 3000), steady: 1, rate: 50}
		var f figures
		fmt.Fprintf(os.Stderr, "%d subscribers, %d bytes\n", w.subscribers, w.size)
		if err := s.fanOut(detachedSSE, &f); err != nil {
			return err
		}
		fmt.Fprintf(out, "| %d | %s | %.2f | %.2f | %d |\n", w.subscribers, inBytes(w.size), f.burst/1e6, float64(f.burstCPU.Nanoseconds())/1000, f.lost)
	}
	if err := growIdle(out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\n| topics, each with a subscriber | publish, us | KB for each topic, with one message of 128 bytes and its subscription |\n|---|---|---|")
	for _, topics := range []int{1, 10, 100, 1000, 10_000} {
		publish, memory, err := overTopics(topics)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "| %d | %.2f | %.2f |\n", topics, float64(publish.Nanoseconds())/1000, memory/1024)
	}
	return nil
}

// detachedSSE is the index in peers of the one whose growth is measured.
const detachedSSE = 9

// growIdle reports what an idle connection takes, of few and of as many as a process may have
// open: what it takes must not grow.
func growIdle(out io.Writer) error {
	counts := []int{2000, 6000, 12_000, 18_000}
	fmt.Fprintf(out, "\n| idle connections of | %d | %d | %d | %d |\n|---|---|---|---|---|\n", counts[0], counts[1], counts[2], counts[3])
	for i, p := range peers {
		if p.program != nil || !strings.HasPrefix(p.name, "fanfare") {
			continue
		}
		fmt.Fprintf(out, "| %s, %s |", p.name, p.wire)
		for _, n := range counts {
			fmt.Fprintf(os.Stderr, "%d idle connections of %s, %s\n", n, p.name, p.wire)
			var f figures
			if err := (suite{idle: n}).idling(i, &f); err != nil {
				return err
			}
			fmt.Fprintf(out, " %.1f (%.1f) |", f.live/1024, f.rss/1024)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, "\nKB of heap and stack for each (resident).")
	return nil
}

func inBytes(n int) string {
	if n >= 1024 {
		return strconv.Itoa(n/1024) + " KiB"
	}
	return strconv.Itoa(n) + " B"
}

// overTopics measures a hub with many topics, each with one subscriber. It returns the time of
// a Publish and the memory of a topic in bytes.
func overTopics(topics int) (publish time.Duration, memory float64, err error) {
	ctx := context.Background()
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var hub broadcast.Hub
	names := make([]string, topics)
	subs := make([]broadcast.Subscription, topics)
	buf := make([]*broadcast.Message, 1)
	for i := range names {
		names[i] = "topic " + strconv.Itoa(i)
		if subs[i], err = hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: names[i : i+1]}); err != nil {
			return 0, 0, err
		}
		if _, err := hub.Publish(ctx, broadcast.Message{Topic: names[i], Data: payload(128)}); err != nil {
			return 0, 0, err
		}
		for n := 1; n > 0; {
			n, _ = subs[i].Poll(buf)
		}
	}
	memory = float64(heap()-before) / float64(topics)
	const messages = 200_000
	data := payload(128)
	began := time.Now()
	for i := range messages {
		if _, err := hub.Publish(ctx, broadcast.Message{Topic: names[i%topics], Data: data}); err != nil {
			return 0, 0, err
		}
	}
	publish = time.Since(began) / messages
	return publish, memory, hub.Close()
}
