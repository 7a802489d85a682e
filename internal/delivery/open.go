package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// Handler is what the handlers of both transports are configured with.
type Handler struct {
	Name         string // of the package, for errors
	Broadcaster  broadcast.Broadcaster
	Topics       []string
	Grant        func(*http.Request) (*fanfare.Grant, error)
	ErrorHandler func(http.ResponseWriter, *http.Request, error)
	Logger       *slog.Logger
	Plain        bool // refusals are told as they are
	Detach       bool // the stream outlives the request
}

// State is what a handler keeps between requests. The zero value is ready.
type State struct {
	servers        Servers
	clock          clock
	workers        workers
	counts         counts
	warnOfDeadline sync.Once
	topics         atomic.Pointer[fanfare.Grant] // what everybody gets
}

// After returns the position that a request resumes from. The header comes
// first: an EventSource repeats its first URL, with the query that was true then,
// on every reconnect. What is no ID resumes as a gap.
func After(r *http.Request) broadcast.ID {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		query := r.URL.Query()
		for _, name := range []string{"lastEventId", "last_event_id", "lastEventID"} {
			if text = query.Get(name); text != "" {
				break
			}
		}
	}
	id, err := broadcast.ParseID(text)
	if err != nil {
		return lost
	}
	return id
}

// lost is a position that always resumes as a gap.
var lost = broadcast.MakeID(1, 0)

// Open asks who the client is, subscribes for it and takes the first look, so
// that whatever can go wrong has gone wrong before anything is committed. The
// caller then calls Start, or Abandon.
func (h Handler) Open(r *http.Request, state *State, codec *Codec) (_ *Stream, err error) {
	if h.Broadcaster == nil {
		return nil, fmt.Errorf("%s: Handler.Broadcaster is nil", h.Name)
	}
	s := newStream(r.Context(), h, state, codec)
	s.restless = r.URL.Query().Get("heartbeat") == "1"
	s.server = state.servers.of(r) // before Grant: a Shutdown meanwhile calls who is registered by then
	opened := false
	defer func() {
		if !opened { // also after a panic
			s.Abandon()
		}
	}()
	if s.grant, err = h.grant(r, s, state); err != nil {
		return nil, err
	}
	after := After(r)
	s.catching = !after.IsZero()
	s.sub, err = h.Broadcaster.Subscribe(r.Context(), broadcast.SubscribeOptions{
		Topics: s.grant.Topics,
		After:  after,
		Last:   s.grant.Last,
		Notify: s.notify,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: subscribing: %w", h.Name, err)
	}
	switch err := s.look(after.IsZero()); {
	case errors.Is(err, errUnspeakable):
		s.unspeakable = true
	case err != nil:
		return nil, fmt.Errorf("%s: beginning the stream: %w", h.Name, err)
	}
	if _, ok := r.Context().Deadline(); ok && !h.Detach {
		state.warnOfDeadline.Do(func() {
			codec.Logger.Warn(h.Name+": the request's context has a deadline, which will end the stream; "+
				"a timeout middleware is the usual cause: mount the handler outside of it", "path", r.URL.Path)
		})
	}
	if s.outlives && h.Grant != nil {
		s.grant = kept(s.grant)
	}
	opened = true
	return s, nil
}

func (h Handler) grant(r *http.Request, s *Stream, state *State) (g *fanfare.Grant, err error) {
	if h.Grant == nil {
		if len(h.Topics) == 0 {
			return nil, fmt.Errorf("%s: Handler has neither Topics nor Grant", h.Name)
		}
		state.topics.CompareAndSwap(nil, &fanfare.Grant{Topics: h.Topics})
		return state.topics.Load(), nil
	}
	r = r.WithContext(s.Context())
	err = guard.Call("Handler.Grant", func() (err error) {
		g, err = h.Grant(r)
		return err
	})
	if p, ok := errors.AsType[*guard.PanicError](err); ok && p.Value == http.ErrAbortHandler {
		panic(http.ErrAbortHandler) // a way to end a request, which net/http knows
	}
	switch {
	case err != nil:
		return nil, err
	case g == nil:
		return nil, fmt.Errorf("%s: Handler.Grant returned neither a Grant nor an error", h.Name)
	case len(g.Topics) == 0:
		return nil, fmt.Errorf("%s: Handler.Grant returned a Grant without Topics", h.Name)
	case !g.Expires.IsZero() && !time.Now().Before(g.Expires):
		return nil, &fanfare.Refusal{Status: http.StatusUnauthorized, Err: errors.New("the Grant had expired already")}
	}
	return g, nil
}

// kept returns what is needed of a grant once its topics are subscribed to. It keeps
// nothing of a request's URL, which those may be parts of.
func kept(g *fanfare.Grant) *fanfare.Grant {
	k := *g
	k.Topics = nil
	if k.Change != nil { // whose refusal tells what the client still has
		for _, name := range g.Topics {
			k.Topics = append(k.Topics, strings.Clone(name))
		}
	}
	return &k
}

// status returns the HTTP status that a client is refused with for an error, which is
// another one if the error has none that can be.
func status(err error) (int, error) {
	if refusal, ok := errors.AsType[*fanfare.Refusal](err); ok {
		switch code := refusal.Status; {
		case code == 0:
			return http.StatusForbidden, err
		case code < 400 && code != http.StatusNoContent || code > 599:
			return http.StatusInternalServerError, fmt.Errorf("%w: the status of a Refusal must be 204 or from 400 to 599", err)
		default:
			return code, err
		}
	}
	if errors.Is(err, broadcast.ErrClosed) {
		return http.StatusServiceUnavailable, err
	}
	return http.StatusInternalServerError, err
}

// Refuse answers a request that gets no stream, and logs and counts it once.
func (h Handler) Refuse(w http.ResponseWriter, r *http.Request, state *State, err error) {
	status, err := status(err)
	var retryAfter time.Duration
	if refusal, ok := errors.AsType[*fanfare.Refusal](err); ok {
		retryAfter = refusal.RetryAfter
	}
	level := slog.LevelInfo
	switch {
	case r.Context().Err() != nil && errors.Is(err, context.Canceled):
		level = slog.LevelDebug // the client has left, which is nobody's fault
	case status == http.StatusInternalServerError:
		level = slog.LevelError
	}
	if level != slog.LevelDebug {
		state.CountRefusal(status)
	}
	h.logger().Log(context.WithoutCancel(r.Context()), level, h.Name+": refused a stream",
		"path", r.URL.Path, "status", status, "reason", err)
	if h.ErrorHandler != nil {
		h.ErrorHandler(w, r, err)
		return
	}
	fanfare.Refuse(w, r, &fanfare.Refusal{Status: status, RetryAfter: retryAfter, Plain: h.Plain})
}

func (h Handler) logger() *slog.Logger {
	if h.Logger == nil {
		return slog.Default()
	}
	return h.Logger
}
