package redisjournal_test

import (
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

const patience = 10 * time.Second

// server is the Redis or Valkey of one test. After a crash it has what it had written to its
// directory.
type server struct {
	t       *testing.T
	program string
	address string
	options []string
	process *exec.Cmd
	admin   *redis.Client // with retries
}

// start starts a server. It writes nothing to disk unless options say so.
func start(t *testing.T, options ...string) *server {
	t.Helper()
	program := ""
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("neither redis-server nor valkey-server is installed")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	_, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	s := &server{t: t, program: program, address: address, options: append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--logfile", filepath.Join(dir, "log"), "--save", "",
	}, options...)}
	s.admin = redis.NewClient(&redis.Options{Addr: address, ClientName: "admin"})
	t.Cleanup(func() {
		s.admin.Close()
		s.crash()
	})
	s.run()
	return s
}

// startCluster starts a cluster of one server.
func startCluster(t *testing.T) *server {
	t.Helper()
	s := start(t, "--cluster-enabled", "yes")
	s.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	require.Eventually(t, func() bool { return s.admin.Set(t.Context(), "x", "y", 0).Err() == nil }, patience, 5*time.Millisecond, "the cluster does not start")
	return s
}

// run starts the server, for the first time or after a crash.
func (s *server) run() {
	s.t.Helper()
	s.process = exec.Command(s.program, s.options...)
	require.NoError(s.t, s.process.Start())
	require.Eventually(s.t, func() bool { return s.admin.Ping(s.t.Context()).Err() == nil }, patience, 5*time.Millisecond, "the server does not start")
}

// crash kills the server.
func (s *server) crash() {
	if s.process != nil {
		_ = s.process.Process.Signal(syscall.SIGKILL)
		_ = s.process.Wait()
		s.process = nil
	}
}

func (s *server) do(args ...any) any {
	s.t.Helper()
	reply, err := s.admin.Do(s.t.Context(), args...).Result()
	require.NoError(s.t, err, "%v", args)
	return reply
}

// journal returns the journal of a new node, with the default key.
func (s *server) journal() *redisjournal.Journal {
	return &redisjournal.Journal{Client: s.client("node"), Logger: quiet()}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (s *server) client(name string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: s.address, ClientName: name})
	s.t.Cleanup(func() { client.Close() })
	return client
}

func (s *server) port() string { return s.address[len("127.0.0.1:"):] }

// role returns the role of the server, and of a replica also the state of its connection.
func (s *server) role() string {
	role := s.do("ROLE").([]any)
	if role[0] != "slave" {
		return role[0].(string)
	}
	return "slave " + role[3].(string)
}

// last returns the ID of the last entry in Redis.
func (s *server) last() string {
	info, err := s.admin.XInfoStream(s.t.Context(), "fanfare").Result()
	if err != nil {
		return err.Error()
	}
	return info.LastGeneratedID
}

// connections returns how many connections have this name.
func (s *server) connections(name string) int {
	return strings.Count(s.do("CLIENT", "LIST").(string), " name="+name+" ")
}

// waiting reports whether a connection with this name waits for an entry.
func (s *server) waiting(name string) bool {
	for line := range strings.Lines(s.do("CLIENT", "LIST").(string)) {
		if strings.Contains(line, " name="+name+" ") && strings.Contains(line, " flags=b ") {
			return true
		}
	}
	return false
}
