package natsjournal_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

const (
	soon   = 15 * time.Second
	moment = 10 * time.Millisecond
)

// engine is a NATS server of this process that can be restarted.
type engine struct {
	*server.Server
	t       *testing.T
	options server.Options
}

func startEngine(t *testing.T, change ...func(*server.Options)) *engine {
	t.Helper()
	e := &engine{t: t, options: server.Options{
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		JetStream:  true,
		StoreDir:   t.TempDir(),
		NoSigs:     true,
		NoLog:      true,
		MaxPayload: 1 << 20,
	}}
	for _, c := range change {
		c(&e.options)
	}
	e.start()
	e.options.Port = e.Addr().(*net.TCPAddr).Port // where clients find it again
	t.Cleanup(e.stop)
	return e
}

func (e *engine) start() {
	e.t.Helper()
	options := e.options // a server changes its own
	s, err := server.NewServer(&options)
	require.NoError(e.t, err)
	s.Start()
	require.True(e.t, s.ReadyForConnections(soon), "the server is up")
	e.Server = s
}

func (e *engine) stop() {
	e.Shutdown()
	e.WaitForShutdown()
}

func (e *engine) restart() {
	e.t.Helper()
	e.stop()
	e.start()
}

// backup copies what a stopped engine has on disk.
func (e *engine) backup() string {
	e.t.Helper()
	dir := e.t.TempDir()
	require.NoError(e.t, os.CopyFS(dir, os.DirFS(e.options.StoreDir)))
	return dir
}

// restore lets a stopped engine start with what a backup has.
func (e *engine) restore(backup string) {
	e.t.Helper()
	require.NoError(e.t, os.RemoveAll(e.options.StoreDir))
	require.NoError(e.t, os.CopyFS(e.options.StoreDir, os.DirFS(backup)))
}

// elsewhere starts a stopped engine where its clients do not find it, and stops it
// again.
func (e *engine) elsewhere(do func(jetstream.JetStream)) {
	e.t.Helper()
	port := e.options.Port
	e.options.Port = server.RANDOM_PORT
	e.start()
	do(admin(e.t, e.connect()))
	e.stop()
	e.options.Port = port
}

func (e *engine) connect() *nats.Conn {
	e.t.Helper()
	return connect(e.t, e.ClientURL())
}

func connect(t *testing.T, urls string) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// journal returns a node's journal, with a connection of its own.
func (e *engine) journal() *natsjournal.Journal {
	e.t.Helper()
	return journal(e.connect())
}

func journal(conn *nats.Conn) *natsjournal.Journal {
	return &natsjournal.Journal{Conn: conn, MaxBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler)}
}

// admin looks at the stream, and does to it what an operator does.
func admin(t *testing.T, conn *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

func stream(t *testing.T, js jetstream.JetStream) jetstream.Stream {
	t.Helper()
	s, err := js.Stream(t.Context(), "fanfare")
	require.NoError(t, err)
	return s
}

// add appends messages of these texts, each by itself.
func add(t *testing.T, j broadcast.Journal, texts ...string) []broadcast.ID {
	t.Helper()
	var ids []broadcast.ID
	for _, text := range texts {
		id, err := j.Append(within(t), message(text))
		require.NoError(t, err)
		ids = append(ids, id...)
	}
	return ids
}

func message(text string) broadcast.Message {
	return broadcast.Message{Topic: "t", Data: []byte(text)}
}

func numbers(from, to int) []string {
	var texts []string
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint(i))
	}
	return texts
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	t.Cleanup(cancel)
	return ctx
}

// tailing is a running Tail. Its ctx ends if it yields nothing for too long.
type tailing struct {
	t      *testing.T
	cancel context.CancelFunc
	pull   func() (broadcast.Message, error, bool)
	stop   func()
}

func follow(t *testing.T, j broadcast.Journal, after broadcast.ID) *tailing {
	ctx, cancel := context.WithCancel(context.Background())
	pull, stop := iter.Pull2(j.Tail(ctx, after))
	t.Cleanup(stop)
	t.Cleanup(cancel)
	return &tailing{t, cancel, pull, stop}
}

func (f *tailing) next() (broadcast.Message, error) {
	f.t.Helper()
	timer := time.AfterFunc(soon, f.cancel)
	defer timer.Stop()
	m, err, ok := f.pull()
	require.True(f.t, ok, "the Tail ended")
	return m, err
}

// yields checks that these messages come next, one behind the other.
func (f *tailing) yields(ids []broadcast.ID, texts ...string) {
	f.t.Helper()
	for i, text := range texts {
		m, err := f.next()
		require.NoError(f.t, err, "before %q", text)
		require.Equal(f.t, text, string(m.Data))
		if ids != nil {
			require.Equal(f.t, ids[i], m.ID)
		}
	}
}

// gap checks that a loss is yielded next, and returns where.
func (f *tailing) gap() broadcast.ID {
	f.t.Helper()
	m, err := f.next()
	require.ErrorIs(f.t, err, broadcast.ErrGap, "instead of %q", m.Data)
	var gap *broadcast.GapError
	require.True(f.t, errors.As(err, &gap))
	require.Equal(f.t, m.ID, gap.ID)
	require.Empty(f.t, m.Topic)
	return m.ID
}
