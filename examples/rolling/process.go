package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a child process that runs this program in a role.
type process struct {
	addr string
	cmd  *exec.Cmd
	done chan error
}

// start starts a process in a role, and waits until it listens. If addr is empty, the
// process chooses a port.
func start(ctx context.Context, role, addr string, args ...string) (*process, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{done: make(chan error, 1)}
	p.cmd = exec.CommandContext(ctx, self, append([]string{"-role", role, "-addr", addr}, args...)...)
	p.cmd.Env = append(os.Environ(), "ROLLING_CHILD=1")
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("the %s did not start: %w", role, err)
	}
	p.addr = strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

func (p *process) url() string { return "http://" + p.addr }

// terminate sends SIGTERM, as an orchestrator does, and waits until the process has exited.
func (p *process) terminate(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return fmt.Errorf("the process on %s does not exit", p.addr)
	}
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// listen listens on addr, and reports the actual address to the parent process.
func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Printf("listening on %s\n", l.Addr())
	return l, nil
}
