package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// stateReader is a client that shows the values of all keys.
type stateReader struct {
	bytes, values, gaps, begins atomic.Int64

	mu     sync.Mutex
	shown  []int     // by key: the version; 0: none
	at     [][]int64 // by key and version: when it was published; of the one that knows all
	knows  bool
	latest atomic.Int64 // when something came last
}

// receiveState is the receiver process. It connects all readers, waits until those that begin with
// all keys have them, and prints a line. Then it reads for how long to report.
func receiveState(addr string) error {
	all := &stateReader{knows: true, at: make([][]int64, stateKeys), shown: make([]int, stateKeys)}
	fast, slow := []*stateReader{all}, make([]*stateReader, stateSlow)
	for len(fast) < stateFast {
		fast = append(fast, new(stateReader))
	}
	for i := range slow {
		slow[i] = &stateReader{shown: make([]int, stateKeys)}
	}
	failed := make(chan error, stateFast+stateSlow)
	for _, r := range fast {
		if err := r.open(addr, 0, failed); err != nil {
			return err
		}
	}
	for _, r := range slow {
		if err := r.open(addr, stateSlowBps, failed); err != nil {
			return err
		}
	}
	for _, r := range append(slow, fast...) { // until nothing has come for a second: it has begun
		for time.Since(time.Unix(0, r.latest.Load())) < time.Second {
			time.Sleep(100 * time.Millisecond)
		}
	}
	begun := [2]stateReaders{sumOf(fast), sumOf(slow)}
	fmt.Println("connected")
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return in.Err()
	}
	seconds, err := strconv.Atoi(in.Text())
	if err != nil {
		return err
	}
	var report stateReport
	for range seconds {
		select {
		case err := <-failed:
			return err // a stream has ended
		case <-time.After(time.Second):
		}
		oldest := time.Duration(0)
		for _, r := range slow {
			age, _ := r.oldest(all)
			oldest = max(oldest, age)
		}
		report.Oldest = append(report.Oldest, oldest)
	}
	report.Fast, report.Slow = sumOf(fast).since(begun[0]), sumOf(slow).since(begun[1])
	time.Sleep(time.Minute) // two rounds of the slow ones, and more
	for _, r := range slow {
		_, wrong := r.oldest(all)
		report.Wrong += wrong
	}
	report.Wrong /= stateSlow
	return json.NewEncoder(os.Stdout).Encode(report)
}

func sumOf(readers []*stateReader) (s stateReaders) {
	for _, r := range readers {
		s.Bytes += int(r.bytes.Load())
		s.Values += int(r.values.Load())
		s.Gaps += int(r.gaps.Load())
		s.Begins += int(r.begins.Load())
	}
	return s
}

func (s stateReaders) since(begun stateReaders) stateReaders {
	return stateReaders{s.Bytes - begun.Bytes, s.Values - begun.Values, s.Gaps - begun.Gaps, s.Begins - begun.Begins}
}

// open connects a reader, which reads at most so many bytes a second; 0: all there is.
func (r *stateReader) open(addr string, rate int, failed chan<- error) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	size := 64 << 10
	if rate > 0 {
		size = rate / 10
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
	}
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")); err != nil {
		return err
	}
	r.latest.Store(time.Now().UnixNano())
	go func() {
		defer c.Close()
		buf, kept := make([]byte, size), []byte(nil)
		next := time.Now() // when it reads on
		for {
			n, err := c.Read(buf)
			if err != nil {
				failed <- fmt.Errorf("a reader of %d bytes/s: %w", rate, err)
				return
			}
			r.latest.Store(time.Now().UnixNano())
			kept = r.take(buf[:n], kept)
			if rate > 0 { // it makes up for no more than a moment in which nothing came
				if moment := time.Now().Add(-100 * time.Millisecond); next.Before(moment) {
					next = moment
				}
				next = next.Add(time.Duration(n) * time.Second / time.Duration(rate))
				time.Sleep(time.Until(next))
			}
		}
	}()
	return nil
}

// take counts what has come. It returns the rest of a line, which belongs before what comes next.
func (r *stateReader) take(b, kept []byte) []byte {
	r.bytes.Add(int64(len(b)))
	r.values.Add(int64(bytes.Count(b, []byte("@"))))
	if r.shown == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b = append(kept, b...)
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			return append([]byte(nil), b...)
		}
		b = rest
		switch _, value, ok := bytes.Cut(line, []byte("@")); {
		case ok:
			r.show(value)
		case bytes.HasPrefix(line, []byte("event: gap")):
			r.gaps.Add(1)
		case bytes.HasPrefix(line, []byte("event: begin")):
			r.begins.Add(1)
		}
	}
}

// show shows a value: the key, the version and the time.
func (r *stateReader) show(value []byte) {
	key, _ := strconv.Atoi(string(value[:5]))
	version, _ := strconv.Atoi(string(value[6:13]))
	r.shown[key] = version
	if r.knows {
		at, _ := strconv.ParseInt(string(value[14:30]), 16, 64)
		for len(r.at[key]) <= version {
			r.at[key] = append(r.at[key], at)
		}
	}
}

// oldest returns since when the oldest value that a reader shows is not the newest, and how many
// of those that all has are not. Keys that it has never had do not count: it does not know of them.
func (r *stateReader) oldest(all *stateReader) (age time.Duration, wrong int) {
	all.mu.Lock()
	defer all.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UnixNano()
	for key, version := range r.shown {
		if version > 0 && version+1 < len(all.at[key]) {
			age = max(age, time.Duration(now-all.at[key][version+1]))
			wrong++
		}
	}
	return age, wrong
}
