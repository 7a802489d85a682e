// Command fanfare looks at event streams and WebSockets from outside, as their clients do.
//
//	go run github.com/fanfare-go/fanfare/cmd/fanfare@latest tail https://example.com/events
//	go run github.com/fanfare-go/fanfare/cmd/fanfare@latest check https://example.com/events
//
// tail prints the messages of a stream as they come. It reconnects and resumes, as a browser
// does. A URL with ws or wss is a WebSocket of this kit, any other an event stream of any server.
//
// check is a client that finds out whether what stands between it and the server, such as a
// proxy, lets a stream through: whether the stream begins at once, is compressed or cached,
// stays open and has heartbeats, resumes, and refuses pages of other sites.
//
// The exit status is 0 if a stream has ended in good order or by an interrupt, or if a check has
// found no fault; 1 if the stream has failed or a check has found a fault; and 2 if the command
// line is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// How the commands are called.
const (
	tailUsage  = `fanfare tail [-last n] [-from id] [-json] [-H "name: value"]... URL`
	checkUsage = `fanfare check [-wait duration] [-origin URL] [-H "name: value"]... URL`
)

const usage = `usage:
  ` + tailUsage + `
  ` + checkUsage + `

fanfare tail -h and fanfare check -h explain the flags.
`

// Exit codes.
const (
	good   = 0
	failed = 1
	misuse = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs a command and returns its exit code.
func run(ctx context.Context, args []string, out, errors io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "tail":
			return tail(ctx, args[1:], out, errors)
		case "check":
			return check(ctx, args[1:], out, errors)
		case "help", "-h", "-help", "--help":
			fmt.Fprint(out, usage)
			return good
		}
	}
	fmt.Fprint(errors, usage)
	return misuse
}

// target is the stream that a command is for.
type target struct {
	url    *url.URL
	header http.Header
}

// isSocket reports whether the target is a WebSocket.
func (t *target) isSocket() bool { return t.url.Scheme == "ws" || t.url.Scheme == "wss" }

// parse parses the arguments of a command that is called as usage says. It reports false, with
// the exit code, if that ends the command.
func (t *target) parse(flags *flag.FlagSet, usage string, args []string, output io.Writer) (code int, ok bool) {
	t.header = make(http.Header)
	flags.SetOutput(output)
	flags.Usage = func() {
		fmt.Fprintf(output, "usage: %s\n\n", usage)
		flags.PrintDefaults()
	}
	flags.Func("H", "a `header` of the requests, such as \"Authorization: Bearer x\"; may be repeated", func(line string) error {
		name, value, found := strings.Cut(line, ":")
		if !found || strings.TrimSpace(name) == "" {
			return errors.New("it is not \"name: value\"")
		}
		t.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		return nil
	})
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return good, false
	case err != nil:
		return misuse, false
	case flags.NArg() != 1:
		fmt.Fprintln(output, "fanfare: one URL is needed, after the flags")
		return misuse, false
	}
	var err error
	if t.url, err = url.Parse(flags.Arg(0)); err != nil {
		fmt.Fprintln(output, "fanfare:", err)
		return misuse, false
	}
	switch t.url.Scheme {
	case "http", "https", "ws", "wss":
	default:
		fmt.Fprintf(output, "fanfare: %q begins with none of http://, https://, ws:// and wss://\n", flags.Arg(0))
		return misuse, false
	}
	if t.url.Host == "" {
		fmt.Fprintf(output, "fanfare: %q has no host\n", flags.Arg(0))
		return misuse, false
	}
	return good, true
}
