package natsjournal_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

const (
	soon   = 30 * time.Second
	moment = 10 * time.Millisecond
)

// engine is a NATS server in this process that can be restarted.
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
	e.options.Port = e.Addr().(*net.TCPAddr).Port // so that clients find it again after a restart
	t.Cleanup(e.stop)
	return e
}

func (e *engine) start() {
	e.t.Helper()
	options := e.options // NewServer changes its argument
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

// backup copies the disk of a stopped engine.
func (e *engine) backup() string {
	e.t.Helper()
	dir := ""
	require.Eventually(e.t, func() bool { // the engine may still remove what was deleted
		dir = e.t.TempDir()
		return os.CopyFS(dir, os.DirFS(e.options.StoreDir)) == nil
	}, soon, moment)
	return dir
}

// restore replaces the disk of a stopped engine with a backup.
func (e *engine) restore(backup string) {
	e.t.Helper()
	require.NoError(e.t, os.RemoveAll(e.options.StoreDir))
	require.NoError(e.t, os.CopyFS(e.options.StoreDir, os.DirFS(backup)))
}

// elsewhere runs a stopped engine on another port, where its clients do not find it, for
// as long as do runs.
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

// journal returns the journal of a new node, with a connection of its own.
func (e *engine) journal() *natsjournal.Journal {
	e.t.Helper()
	return journal(e.connect())
}

func journal(conn *nats.Conn) *natsjournal.Journal {
	return &natsjournal.Journal{Conn: conn, MaxBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler)}
}

// admin returns a client with which a test inspects and changes the stream, as an operator
// would.
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

// reserve listens on a port that nobody gets who asks for any port, or connects, once the caller
// has closed it: one below those that Linux gives away.
func reserve(t *testing.T) net.Listener {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 12000+rand.IntN(20000))); err == nil {
			return l
		}
	}
	require.Fail(t, "no port is free")
	return nil
}
