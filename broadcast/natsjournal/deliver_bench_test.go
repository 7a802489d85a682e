package natsjournal_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// BenchmarkDeliver measures messages that are published on one node until another node has
// delivered all of them, and the CPU time that a message takes in the nodes (this process, with
// both) and in the engine (a process of its own). Beside it stands a bare client that publishes
// without waiting, with one or two ordered consumers: a Hub that publishes follows the stream
// too, so that two consumers do the same work. A client that waits for each message is the peer
// of a Hub with one publisher.
//
//	go test -run '^$' -bench Deliver -benchtime 300000x
func BenchmarkDeliver(b *testing.B) {
	e := startEngineProcess(b)
	b.Run("bare, one consumer", func(b *testing.B) { deliverBare(b, e, 1, false) })
	b.Run("bare, two consumers", func(b *testing.B) { deliverBare(b, e, 2, false) })
	b.Run("bare, two consumers, waiting", func(b *testing.B) { deliverBare(b, e, 2, true) })
	b.Run("hub, one publisher", func(b *testing.B) { deliverHub(b, e, 1) })
	b.Run("hub, 512 publishers", func(b *testing.B) { deliverHub(b, e, publishers) })
}

// engineDir is the environment variable with which a benchmark starts this program as its
// engine.
const engineDir = "NATSJOURNAL_BENCH_ENGINE"

// serve runs an engine until standard input ends.
func serve(dir string) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		panic(err)
	}
	s.Start()
	s.ReadyForConnections(soon)
	fmt.Println(s.ClientURL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
}

// engineProcess is an engine whose CPU time can be told from that of this process.
type engineProcess struct {
	url string
	pid int
}

func startEngineProcess(b *testing.B) engineProcess {
	program, err := os.Executable()
	require.NoError(b, err)
	command := exec.Command(program)
	command.Env = append(os.Environ(), engineDir+"="+b.TempDir())
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	require.NoError(b, err)
	output, err := command.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, command.Start())
	b.Cleanup(func() {
		input.Close()
		_ = command.Wait()
	})
	url, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(b, err)
	return engineProcess{strings.TrimSpace(url), command.Process.Pid}
}

// cpu returns the CPU time that the engine has taken, to 10 ms.
func (e engineProcess) cpu(b *testing.B) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.pid))
	if err != nil {
		b.Skip("needs /proc")
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// ownCPU returns the CPU time that this process has taken.
func ownCPU(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// measure runs do, which delivers b.N messages, and reports what that takes.
func measure(b *testing.B, e engineProcess, do func()) {
	nodes, engine := ownCPU(b), e.cpu(b)
	b.ResetTimer()
	do()
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
	b.ReportMetric(float64((ownCPU(b)-nodes).Nanoseconds())/float64(b.N), "node-ns/msg")
	b.ReportMetric(float64((e.cpu(b)-engine).Nanoseconds())/float64(b.N), "engine-ns/msg")
}

func deliverBare(b *testing.B, e engineProcess, consumers int, waits bool) {
	connect := func() jetstream.JetStream {
		conn, err := nats.Connect(e.url)
		require.NoError(b, err)
		b.Cleanup(conn.Close)
		js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(4096))
		require.NoError(b, err)
		return js
	}
	js := connect()
	config := jetstream.StreamConfig{Name: "bare", Subjects: []string{"bare"}, MaxMsgs: 1_000_000, MaxAge: 24 * time.Hour, Duplicates: time.Minute}
	_, err := js.CreateOrUpdateStream(b.Context(), config)
	require.NoError(b, err)
	var delivered sync.WaitGroup
	for range consumers {
		delivered.Add(1)
		consumer, err := connect().OrderedConsumer(b.Context(), "bare", jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
		require.NoError(b, err)
		n := 0
		consuming, err := consumer.Consume(func(m jetstream.Msg) {
			if _, err := m.Metadata(); err != nil || m.Headers().Get("Fanfare-Topic") == "" {
				b.Error(err)
			}
			if n++; n == b.N {
				delivered.Done()
			}
		})
		require.NoError(b, err)
		defer consuming.Stop()
	}
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	measure(b, e, func() {
		for i := range b.N {
			m := nats.NewMsg("bare") // with the headers of a Journal's entry
			m.Data = payload
			m.Header.Set("Fanfare-Topic", "a")
			id, err := jetstream.WithMsgID(run+strconv.Itoa(i)), error(nil)
			if waits {
				_, err = js.PublishMsg(b.Context(), m, id)
			} else {
				_, err = js.PublishMsgAsync(m, id, jetstream.WithStallWait(time.Minute))
			}
			require.NoError(b, err)
		}
		<-js.PublishAsyncComplete()
		delivered.Wait()
	})
}

func deliverHub(b *testing.B, e engineProcess, publishers int) {
	here, there := openHub(b, e.url), openHub(b, e.url)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	from, err := here.Publish(ctx, broadcast.Message{Topic: "a"})
	require.NoError(b, err)
	var delivered sync.WaitGroup
	delivered.Go(func() {
		n := 0
		for _, err := range broadcast.Messages(ctx, there, broadcast.SubscribeOptions{Topics: []string{"a"}, After: from}) {
			if err != nil {
				b.Error(err)
				return
			}
			if n++; n == b.N {
				return
			}
		}
	})
	measure(b, e, func() {
		var next atomic.Int64
		var publishing sync.WaitGroup
		for range publishers {
			publishing.Go(func() {
				for next.Add(1) <= int64(b.N) {
					if _, err := here.Publish(ctx, broadcast.Message{Topic: "a", Data: payload}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		publishing.Wait()
		delivered.Wait()
	})
}
