package sse

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"time"
)

const defaultSilence = 45 * time.Second

// silenceTimer calls a function once a connection has been silent for too long. It runs
// only while the client waits for bytes: the loop may take as long as it likes for an
// event.
type silenceTimer struct {
	timer   *time.Timer // nil if there is no limit
	limit   time.Duration
	follows bool // the limit follows the interval of the heartbeats
}

// newSilenceTimer returns a timer that has not been started, for a Client.Silence.
func newSilenceTimer(silence time.Duration, expired func()) *silenceTimer {
	t := &silenceTimer{limit: orDefault(silence, defaultSilence), follows: silence == 0}
	if t.limit == 0 {
		return t
	}
	t.timer = time.AfterFunc(t.limit, expired)
	t.timer.Stop()
	return t
}

// start starts the timer. interval is that of the server's heartbeats; 0: not known.
func (t *silenceTimer) start(interval time.Duration) {
	if t.timer == nil {
		return
	}
	limit := t.limit
	if t.follows {
		limit = max(limit, 3*interval)
	}
	t.timer.Reset(limit)
}

func (t *silenceTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// timedReader is a body. Its timer runs while a Read waits.
type timedReader struct {
	body   io.Reader
	reader *Reader // of the body
	timer  *silenceTimer
}

func (r *timedReader) Read(p []byte) (int, error) {
	r.timer.start(r.reader.interval)
	defer r.timer.stop()
	return r.body.Read(p)
}

// readComment reads the interval of heartbeats in a comment of a Handler's stream.
func (r *Reader) readComment(text []byte) {
	if seconds, ok := bytes.CutPrefix(text, []byte("heartbeat ")); ok {
		if s, err := strconv.ParseFloat(string(seconds), 64); err == nil {
			r.setInterval(s)
		}
	}
}

// readInterval reads the interval of heartbeats in the envelope with which a Handler's
// stream begins.
func (r *Reader) readInterval(e Event) {
	if r.interval > 0 || e.Type != "" || !beginsStream(e.Data) {
		return
	}
	var first struct{ Heartbeat float64 }
	if json.Unmarshal(e.Data, &first) == nil {
		r.setInterval(first.Heartbeat)
	}
}

// beginsStream reports whether an envelope is a notice with which a stream may begin.
func beginsStream(envelope []byte) bool {
	for _, kind := range [...]string{`{"ready":`, `{"gap":`, `{"begin":`} {
		if bytes.HasPrefix(envelope, []byte(kind)) {
			return true
		}
	}
	return false
}

// setInterval sets the interval of heartbeats, of a year at most.
func (r *Reader) setInterval(seconds float64) {
	const most = 365 * 24 * time.Hour
	if seconds > 0 {
		r.interval = time.Duration(min(seconds, most.Seconds()) * float64(time.Second))
	}
}
