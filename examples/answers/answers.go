package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"log"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// list is the topic that has each answer's question, by the answer's name as Key. Its Type is
// "writing" or "done". It is for the next process; no client reads it.
const list = "list"

// every is after how many pieces the whole text is published in place of the next one.
const every = 50

// answers writes answers into topics.
type answers struct {
	hub     *broadcast.Hub
	source  Source
	ctx     context.Context // of the process: an answer outlives the request for it
	writing sync.WaitGroup

	mu    sync.Mutex
	stops map[string]context.CancelCauseFunc // guarded by mu: of all answers; nil once done
}

var errStopped = errors.New("stopped by a reader")

// newAnswers goes on with the answers that another process has not finished.
func newAnswers(ctx context.Context, hub *broadcast.Hub, source Source) (*answers, error) {
	a := &answers{hub: hub, source: source, ctx: ctx, stops: make(map[string]context.CancelCauseFunc)}
	if err := hub.Ready(ctx); err != nil {
		return nil, err
	}
	for m, err := range kept(ctx, hub, list) {
		if err != nil {
			return nil, err
		}
		a.stops[m.Key] = nil
		if m.Type != "writing" {
			continue
		}
		var text []byte
		for piece, err := range kept(ctx, hub, "answer/"+m.Key) {
			if err != nil {
				return nil, err
			}
			if piece.Key == "" {
				text = append(text, piece.Data...) // begins with the newest First
			}
		}
		a.start(m.Key, string(m.Data), text)
	}
	return a, nil
}

// kept yields what a topic begins with.
func kept(ctx context.Context, hub *broadcast.Hub, topic string) iter.Seq2[*broadcast.Message, error] {
	return func(yield func(*broadcast.Message, error) bool) {
		s, err := hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{topic}, Beginning: true})
		if err != nil {
			yield(nil, err)
			return
		}
		defer s.Close()
		for buf := make([]*broadcast.Message, 64); ; {
			n, err := s.Poll(buf)
			for _, m := range buf[:n] {
				if !yield(m, nil) {
					return
				}
			}
			if n == 0 && (err == nil || errors.Is(err, broadcast.ErrEnded)) {
				return
			}
			if err != nil && !errors.Is(err, broadcast.ErrBegin) {
				yield(nil, err)
				return
			}
		}
	}
}

// ask starts an answer and returns its name.
func (a *answers) ask(ctx context.Context, question string) (id string, err error) {
	id = rand.Text()
	// The question is the value of a Key, and so stays when the events start over.
	for _, m := range []broadcast.Message{
		{Topic: list, Type: "writing", Key: id, Data: []byte(question)},
		{Topic: "answer/" + id, Type: "question", Key: "question", Data: []byte(question)},
	} {
		if _, err := a.hub.Publish(ctx, m); err != nil {
			return "", err
		}
	}
	a.start(id, question, nil)
	return id, nil
}

func (a *answers) start(id, question string, text []byte) {
	ctx, stop := context.WithCancelCause(a.ctx)
	a.mu.Lock()
	a.stops[id] = stop
	a.mu.Unlock()
	a.writing.Go(func() {
		defer stop(nil)
		end := a.write(ctx, "answer/"+id, question, text)
		if a.ctx.Err() != nil {
			return // the next process goes on
		}
		a.publish(end)
		a.publish(broadcast.Message{Topic: list, Type: "done", Key: id, Data: []byte(question)})
		a.mu.Lock()
		a.stops[id] = nil
		a.mu.Unlock()
	})
}

// write publishes the answer, of which text is known, and returns the message that ends it.
func (a *answers) write(ctx context.Context, topic, question string, text []byte) broadcast.Message {
	end := broadcast.Message{Topic: topic, Type: "done", First: true, End: true}
	var runes sse.RuneBuffer // a model may cut a text anywhere, also within a rune
	n, whole := 0, text != nil
	for token, err := range a.source.Tokens(ctx, question, string(text)) {
		if err != nil {
			if end.Type = "failed"; errors.Is(err, errStopped) {
				end.Type = "stopped"
			}
			break
		}
		piece := runes.Add(token)
		if piece == "" {
			continue
		}
		text = append(text, piece...)
		m := broadcast.Message{Topic: topic, Type: "piece", Data: []byte(piece)}
		if n++; whole || n%every == 0 {
			m.Type, m.First, m.Data = "text", true, bytes.Clone(text)
		}
		_, err = a.hub.Publish(a.ctx, m)
		whole = err != nil // it may have arrived or not; the whole text stands for it
	}
	end.Data = text
	return end
}

// publish tries until it succeeds or the process ends.
func (a *answers) publish(m broadcast.Message) {
	for {
		_, err := a.hub.Publish(a.ctx, m)
		if err == nil || errors.Is(err, broadcast.ErrEnded) || errors.Is(err, broadcast.ErrClosed) || a.ctx.Err() != nil {
			return
		}
		log.Printf("%s in %s: %v", m.Type, m.Topic, err)
		select {
		case <-time.After(time.Second):
		case <-a.ctx.Done():
		}
	}
}

// stop ends an answer where it is, for all who read it. It reports whether it was being written.
func (a *answers) stop(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	stop := a.stops[id]
	if stop != nil {
		stop(errStopped)
	}
	return stop != nil
}

func (a *answers) has(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.stops[id]
	return ok
}
