package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "one round and fewer idle connections, in three minutes")
	only := flag.String("only", "", "only peers whose name contains this")
	rounds := flag.Int("rounds", 3, "how often each peer takes its turn")
	growth := flag.Bool("growth", false, "only how this kit grows with subscribers, sizes and topics")
	chart := flag.String("chart", "", "write a chart of the bursts to this file")
	serving := flag.Int("serve", -1, "be the server's process of a peer")
	taking := flag.String("take", "", "be the process that takes from this address")
	wire := flag.String("wire", "", "how the process that takes speaks")
	conns := flag.Int("conns", 0, "how many connections the process that takes has")
	flag.Parse()
	var err error
	switch {
	case *serving >= 0:
		err = serve(peers[*serving])
	case *taking != "":
		err = take(*taking, *wire, *conns)
	case *growth:
		err = grow(os.Stdout)
	default:
		s := suite{subscribers: 1000, burst: 300, size: 128, steady: 200, rate: 50, idle: 8000, rounds: *rounds, only: *only}
		if *quick {
			s.rounds, s.idle, s.steady = 1, 2000, 100
		}
		err = s.run(os.Stdout, *chart)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// process is a process of this program that takes orders.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts a process on one processor, and returns the first line that it says.
func start(cpu string, args ...string) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p := &process{cmd: exec.Command("taskset", append([]string{"-c", cpu, self}, args...)...)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, "", err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.end()
		return nil, "", fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return p, strings.TrimSpace(line), nil
}

func (p *process) tell(order string) error {
	_, err := io.WriteString(p.in, order+"\n")
	return err
}

func (p *process) hear(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// do gives the server's process an order, and waits until it is done.
func (p *process) do(o order) (u usage, err error) {
	b, err := json.Marshal(o)
	if err != nil {
		return u, err
	}
	if err := p.tell(string(b)); err != nil {
		return u, err
	}
	return u, p.hear(&u)
}

func (p *process) end() {
	p.in.Close() // at which it ends by itself
	timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait()
}

// settle is how long processes have to come to rest.
const settle = 500 * time.Millisecond
