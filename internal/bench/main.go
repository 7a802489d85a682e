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
	quick := flag.Bool("quick", false, "one round with fewer idle connections, about three minutes")
	only := flag.String("only", "", "measure only peers whose name contains this")
	rounds := flag.Int("rounds", 3, "how often each peer is measured")
	growth := flag.Bool("growth", false, "measure only how the cost of this kit grows with subscribers, sizes and topics")
	state := flag.Int("state", 0, "measure only maps of keys with slow readers, for so many seconds; the results are of 60")
	chart := flag.String("chart", "", "write an SVG chart of the burst rates to this file")
	serving := flag.Int("serve", -1, "internal: be the server process of the peer with this index")
	servingState := flag.String("serve-state", "", "internal: be the server process of -state, with keys or without")
	receivingState := flag.String("receive-state", "", "internal: be the receiver process of -state, connected to this address")
	receiving := flag.String("receive", "", "internal: be the receiver process, connected to this address")
	wire := flag.String("wire", "", "internal: the protocol of the receiver")
	conns := flag.Int("conns", 0, "internal: how many connections the receiver opens")
	flag.Parse()
	var err error
	switch {
	case *serving >= 0:
		err = serve(peers[*serving])
	case *receiving != "":
		err = receive(*receiving, *wire, *conns)
	case *servingState != "":
		err = serveState(*servingState)
	case *receivingState != "":
		err = receiveState(*receivingState)
	case *state > 0:
		err = measureState(os.Stdout, *state)
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

// process is another process of this program, which reads orders from its standard input.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts a process on one processor, and returns the first line of its output.
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

// send writes a line to the process.
func (p *process) send(line string) error {
	_, err := io.WriteString(p.in, line+"\n")
	return err
}

// read reads a line of JSON from the process.
func (p *process) read(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// do sends an order to the server process and waits for its reply.
func (p *process) do(o order) (u usage, err error) {
	b, err := json.Marshal(o)
	if err != nil {
		return u, err
	}
	if err := p.send(string(b)); err != nil {
		return u, err
	}
	return u, p.read(&u)
}

// end ends the process, and kills it if that takes too long.
func (p *process) end() {
	p.in.Close() // the process then ends by itself
	timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait()
}

// settle is how long the processes get to become idle before a measurement.
const settle = 500 * time.Millisecond
