package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// quiet is how long nothing comes before what a stream begins with is over.
const quiet = 500 * time.Millisecond

// line is a message as tail prints it. Its fields have the names of the envelope.
type line struct {
	ID    string `json:"id,omitempty"`
	Topic string `json:"topic,omitempty"`
	Key   string `json:"key,omitempty"`
	Type  string `json:"type,omitempty"`
	Data  string `json:"data"`
}

// tail prints the messages of a stream.
func tail(ctx context.Context, args []string, out, errorOut io.Writer) int {
	var t target
	flags := flag.NewFlagSet("fanfare tail", flag.ContinueOnError)
	last := flags.Int("last", -1, "of what the stream begins with, print the newest `n` messages alone; it is over once nothing has come for half a second")
	from := flags.String("from", "", "begin after the message with this `id`")
	asJSON := flags.Bool("json", false, "print each message as a line of JSON")
	if code, ok := t.parse(flags, tailUsage, args, errorOut); !ok {
		return code
	}
	p := &printer{out: out, json: *asJSON, last: *last}
	if *last >= 0 {
		p.timer = time.AfterFunc(time.Hour, p.release)
		defer p.timer.Stop()
	}
	messages := t.events(ctx, *from)
	if t.isSocket() {
		after, err := broadcast.ParseID(*from)
		if err != nil {
			fmt.Fprintln(errorOut, "fanfare: -from:", err)
			return misuse
		}
		messages = t.messages(ctx, after)
	}
	for message, err := range messages {
		switch {
		case ctx.Err() != nil: // interrupted
		case errors.Is(err, broadcast.ErrGap), errors.Is(err, broadcast.ErrBegin):
			p.print(line{Type: "notice", Data: err.Error()})
		case err != nil:
			p.release()
			fmt.Fprintln(errorOut, "fanfare:", err)
			return failed
		default:
			p.print(message)
		}
	}
	p.release()
	return good
}

// events returns the events of an event stream, of any server.
func (t *target) events(ctx context.Context, from string) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
		if err != nil {
			yield(line{}, err)
			return
		}
		r.Header = t.header.Clone()
		if from != "" {
			r.Header.Set("Last-Event-ID", from)
		}
		client := sse.Client{Silence: -1, Logger: slog.New(slog.DiscardHandler), Retry: func(e *sse.ResponseError) bool { return e.Temporary() }}
		for e, err := range client.Events(r) {
			if !yield(line{ID: e.ID, Type: e.Type, Data: string(e.Data)}, err) {
				return
			}
		}
	}
}

// messages returns the messages of a WebSocket of this kit.
func (t *target) messages(ctx context.Context, after broadcast.ID) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		client := ws.Client{URL: t.url.String(), After: after, Dial: ws.DialOptions{Header: t.header}, Logger: slog.New(slog.DiscardHandler)}
		for m, err := range client.Messages(ctx) {
			var l line
			if m != nil {
				l = line{Topic: m.Topic, Key: m.Key, Type: m.Type, Data: string(m.Data)}
				if !m.ID.IsZero() {
					l.ID = m.ID.String()
				}
			}
			if !yield(l, err) {
				return
			}
		}
	}
}

// printer prints lines. With last it keeps those that the stream begins with until nothing has
// come for a while, and then prints the newest.
type printer struct {
	out  io.Writer
	json bool
	last int // negative: all are printed at once

	timer *time.Timer // nil without last

	mu       sync.Mutex // guards what follows, and out
	kept     []line
	released bool
}

func (p *printer) print(l line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last < 0 || p.released {
		p.write(l)
		return
	}
	p.kept = append(p.kept, l)
	if len(p.kept) > p.last {
		p.kept = p.kept[1:]
	}
	p.timer.Reset(quiet)
}

// release prints what is kept.
func (p *printer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released = true
	for _, l := range p.kept {
		p.write(l)
	}
	p.kept = nil
}

// write prints a line: ID, topic, key and type as far as it has them, then the data, whose
// further lines are indented.
func (p *printer) write(l line) {
	if p.json {
		_ = json.NewEncoder(p.out).Encode(l)
		return
	}
	var parts []string
	for _, part := range []string{l.ID, l.Topic, l.Key, l.Type} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	parts = append(parts, strings.ReplaceAll(l.Data, "\n", "\n    "))
	fmt.Fprintln(p.out, strings.Join(parts, "  "))
}
