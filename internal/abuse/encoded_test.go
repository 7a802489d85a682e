package abuse_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// ways maps a path to whether its handler is detached.
var ways = map[string]bool{"/hooked/attached": false, "/hooked/detached": true}

// passedOn returns a message with each injection as its data, and a last one.
func passedOn() (ms []broadcast.Message) {
	for _, text := range append(injections, "over") {
		ms = append(ms, broadcast.Message{Data: []byte(text)})
	}
	return ms
}

// If Encode returns an event with an invalid type, the event is not sent. An ID that Encode
// returns is replaced by the message's own.
func TestEncodeCannotInjectIntoEvents(t *testing.T) {
	v := abused(t, ws.Options{})
	encode := func(typed bool) func(*broadcast.Message) (sse.Event, bool) {
		return func(m *broadcast.Message) (sse.Event, bool) {
			e := sse.Event{ID: string(m.Data), Type: "x", Data: []byte("sent")}
			if typed {
				e.Type = string(m.Data)
			}
			return e, true
		}
	}
	var typed, numbered []*peer
	for path, detach := range ways {
		v.mux.Handle(path+"/typed", &sse.Handler{Broadcaster: v.hub, Topics: []string{"a"}, Detach: detach, Logger: v.logger, Encode: encode(true)})
		v.mux.Handle(path+"/numbered", &sse.Handler{Broadcaster: v.hub, Topics: []string{"a"}, Detach: detach, Logger: v.logger, Encode: encode(false)})
		typed, numbered = append(typed, v.ask(t, path+"/typed")), append(numbered, v.ask(t, path+"/numbered"))
	}
	v.publish(t, len(typed)+len(numbered), passedOn()...)
	for _, p := range typed {
		wire := p.wire(t, "data: sent")
		assert.Contains(t, wire, "event: over\n", "the first event that is sent")
		assert.NotContains(t, wire, "evil")
	}
	for _, p := range numbered {
		var wire string
		for range passedOn() {
			wire += p.wire(t, "data: sent")
		}
		assert.NotContains(t, wire, "evil")
		assert.Equal(t, len(passedOn())+1, strings.Count(wire, "id: "), "those of the messages, and the position at the beginning")
	}
}

// Whatever bytes Encode returns stay within the payload of one frame. A message whose type
// or text is invalid is not sent.
func TestEncodeCannotInjectIntoFrames(t *testing.T) {
	v := abused(t, ws.Options{})
	closing := "\x88\x02\x03\xe8"
	type message struct {
		typ  ws.MessageType
		data []byte
	}
	frames := map[string]message{
		"looks like the end": {typ: ws.Binary, data: []byte(closing + "evil")},
		"is text":            {data: []byte("x\r\nevil")},
		"is no text":         {data: []byte("\xff" + closing)},
		"is a close frame":   {typ: 8, data: []byte("\x03\xe8")},
		"is no type":         {typ: 0x81, data: []byte("evil")},
		"over":               {data: []byte("over")},
	}
	encode := func(m *broadcast.Message) (ws.MessageType, []byte, bool) {
		f := frames[string(m.Data)]
		return f.typ, f.data, true
	}
	var peers []*peer
	for path, detach := range ways {
		v.mux.Handle(path+"/ws", &ws.Handler{Broadcaster: v.hub, Topics: []string{"a"}, Detach: detach, Logger: v.logger, Encode: encode})
		peers = append(peers, v.connect(t, path+"/ws"))
	}
	var ms []broadcast.Message
	for _, text := range []string{"looks like the end", "is text", "is no text", "is a close frame", "is no type", "over"} {
		ms = append(ms, broadcast.Message{Data: []byte(text)})
	}
	v.publish(t, len(peers), ms...)
	for _, p := range peers {
		for _, want := range []struct {
			first   byte
			payload string
		}{{final | binaryFrame, closing + "evil"}, {textFrame, "x\r\nevil"}, {textFrame, "over"}} {
			first, payload, err := readFrame(p.r)
			require.NoError(t, err)
			assert.Equal(t, want.first, first)
			assert.Equal(t, want.payload, payload)
		}
	}
}

// The messages of a Snapshot are not validated by Publish. An event that cannot be written
// is left out, and an envelope quotes its text.
func TestSnapshotCannotInject(t *testing.T) {
	v := abused(t, ws.Options{})
	var state []broadcast.Message
	for _, text := range injections {
		state = append(state, broadcast.Message{Topic: text, Type: text, Data: []byte(text)}, broadcast.Message{Topic: text, Data: []byte(text)})
	}
	grant := func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(context.Context) ([]broadcast.Message, error) { return state, nil }}, nil
	}
	for path, detach := range ways {
		v.mux.Handle(path+"/events", &sse.Handler{Broadcaster: v.hub, Grant: grant, Detach: detach, Logger: v.logger})
		v.mux.Handle(path+"/ws", &ws.Handler{Broadcaster: v.hub, Grant: grant, Detach: detach, Logger: v.logger})
		for _, query := range []string{"", "?envelope=1"} {
			p := v.ask(t, path+"/events"+query)
			v.publish(t, 1, broadcast.Message{Data: []byte("over")})
			isHarmless(t, p.wire(t, "over"), "data: ")
			p.Close()
			v.isDeserted(t)
		}
		p := v.connect(t, path+"/ws")
		require.Contains(t, p.opening(t), `{"begin":"1-0"`)
		for _, m := range state {
			want := map[string]string{"topic": m.Topic, "data": string(m.Data)}
			if m.Type != "" {
				want["type"] = m.Type
			}
			require.Equal(t, want, p.message(t))
		}
		p.Close()
		v.isDeserted(t)
	}
}

// Writer.Send refuses an invalid event, and the events of the same call with it. The
// stream goes on.
func TestSendRefusesInjections(t *testing.T) {
	v := abused(t, ws.Options{})
	v.mux.HandleFunc("/sent", func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.NewWriter(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer stream.Close()
		for _, text := range injections {
			fine := sse.Event{Data: []byte("x")}
			assert.ErrorIs(t, stream.Send(fine, sse.Event{ID: text, Data: []byte("x")}), sse.ErrInvalidEvent)
			assert.ErrorIs(t, stream.Send(fine, sse.Event{Type: text, Data: []byte("x")}), sse.ErrInvalidEvent)
			assert.ErrorIs(t, stream.SendJSON(text, "x"), sse.ErrInvalidEvent)
			assert.NoError(t, stream.Send(sse.Event{Data: []byte("sent " + text)}))
		}
		assert.NoError(t, stream.Send(sse.Event{Type: "over", Data: []byte("over")}))
	})
	wire := v.ask(t, "/sent").wire(t, "data: over")
	isHarmless(t, wire, "data: ")
	assert.Equal(t, len(injections), strings.Count(wire, "data: sent"))
	assert.NotContains(t, wire, "data: x\n\n", "an event of a refused call was sent")
}
