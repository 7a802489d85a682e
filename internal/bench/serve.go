package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// order is a request to the server process: publish messages and report the usage.
type order struct {
	Publish int           // how many messages; 0: only report, with Live
	Size    int           // of a message, in bytes
	Every   time.Duration // between two messages, and after the last; 0: as fast as possible
}

// await waits for when a message is due. The last one has its time as the others have: to measure
// would take the processor from its deliveries.
func (o order) await(began time.Time, i int) {
	if o.Every > 0 {
		time.Sleep(time.Until(began.Add(time.Duration(i) * o.Every)))
	}
}

// usage is the resources that the server process has used so far.
type usage struct {
	Began   int64         // when publishing began, in nanoseconds since 1970
	CPU     time.Duration // user and system time
	User    time.Duration // user time
	RSS     int64         // resident memory in bytes
	Live    int64         // bytes of heap and stacks, after a garbage collection
	Mallocs uint64
}

// serve is the server process. It reads orders from its standard input.
func serve(p peer) error {
	if p.program != nil {
		program, err := p.program(p.wire)
		if err != nil {
			return err
		}
		return become(program)
	}
	h, publish := p.open()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l)
	fmt.Println(l.Addr())
	out := json.NewEncoder(os.Stdout)
	if name := os.Getenv("BENCH_PROFILE"); name != "" {
		file, err := os.Create(name)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		began := time.Now()
		for i := range o.Publish {
			o.await(began, i)
			publish(payload(o.Size))
		}
		o.await(began, o.Publish)
		u := measure(o)
		u.Began = began.UnixNano()
		if err := out.Encode(u); err != nil {
			return err
		}
	}
	return in.Err()
}

// payload returns a message that begins with a mark, which is nowhere else on the wire, and the
// current time.
func payload(size int) []byte {
	b := fmt.Appendf(make([]byte, 0, size), "@%016x", time.Now().UnixNano())
	for len(b) < size {
		b = append(b, 'x')
	}
	return b
}

// measure returns the usage after an order. Only if that published nothing does it collect
// garbage first.
func measure(o order) usage {
	var u usage
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	u.User = time.Duration(r.Utime.Nano())
	u.CPU = u.User + time.Duration(r.Stime.Nano())
	if o.Publish == 0 {
		runtime.GC()
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Live, u.Mallocs = int64(m.HeapAlloc+m.StackInuse), m.Mallocs
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
		u.RSS = pages * int64(os.Getpagesize())
	}
	return u
}
