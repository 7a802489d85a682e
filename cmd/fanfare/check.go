package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"time"
)

// report is what a check has found, one line for each thing that it looked at.
type report struct {
	out         io.Writer
	interrupted func() bool // then what fails says nothing about the stream
	faults      int
}

func (r *report) ok(what, text string, args ...any)   { r.print("ok   ", what, text, args...) }
func (r *report) note(what, text string, args ...any) { r.print("note ", what, text, args...) }

func (r *report) fault(what, text string, args ...any) {
	r.faults++
	r.print("FAULT", what, text, args...)
}

func (r *report) print(how, what, text string, args ...any) {
	if r.interrupted() {
		return
	}
	fmt.Fprintf(r.out, "%s  %-12s%s\n", how, what, fmt.Sprintf(text, args...))
}

// prompt is how long bytes may take that were sent at once.
const prompt = 2 * time.Second

// checker is one run of check.
type checker struct {
	target
	*report
	progress io.Writer
	wait     time.Duration // for a heartbeat
	origin   string        // of the site's own pages
}

// foreignOrigin is the origin of a page of another site. The name is reserved (RFC 6761).
const foreignOrigin = "https://page-of-another-site.invalid"

// check looks at a stream as its clients do.
func check(ctx context.Context, args []string, out, errorOut io.Writer) int {
	c := checker{report: &report{out: out, interrupted: func() bool { return ctx.Err() != nil }}, progress: errorOut}
	flags := flag.NewFlagSet("fanfare check", flag.ContinueOnError)
	flags.DurationVar(&c.wait, "wait", 35*time.Second, "how long to wait for a heartbeat on a quiet stream")
	flags.StringVar(&c.origin, "origin", "", "the origin of the site's own pages, a `URL`; if empty, that of the stream")
	if code, ok := c.parse(flags, checkUsage, args, errorOut); !ok {
		return code
	}
	if c.origin == "" {
		c.origin = (&url.URL{Scheme: map[string]string{"ws": "http", "wss": "https", "http": "http", "https": "https"}[c.url.Scheme], Host: c.url.Host}).String()
	}
	if c.isSocket() {
		c.checkSocket(ctx)
	} else {
		c.checkEvents(ctx)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(errorOut, "fanfare: interrupted")
		return failed
	}
	switch c.faults {
	case 0:
		fmt.Fprintln(out, "\nno fault found")
		return good
	case 1:
		fmt.Fprintln(out, "\n1 fault found")
	default:
		fmt.Fprintf(out, "\n%d faults found\n", c.faults)
	}
	return failed
}
