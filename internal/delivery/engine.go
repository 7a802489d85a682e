package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/ratelog"
	"github.com/fanfare-go/fanfare/internal/status"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/watch"
)

// Config is what a handler of either transport is configured with.
type Config struct {
	Name         string // of the package, for errors and the log
	Broadcaster  broadcast.Broadcaster
	Topics       []string
	Grant        func(*http.Request) (*fanfare.Grant, error)
	ErrorHandler func(http.ResponseWriter, *http.Request, error)
	Logger       *slog.Logger // nil: slog.Default()
	CacheBytes   int          // bounds the wire forms that are kept; 0: DefaultCacheBytes, negative: none are
}

// Engine serves the requests of one handler, and has what its streams share.
type Engine struct {
	Config
	Watch     watch.Watch    // over the connections of detached streams
	everybody *fanfare.Grant // what each client gets where there is no Config.Grant
	nowhere   string         // the topic of streams without topics

	servers servers
	clock   clock
	workers workers
	counts  counts
	batches batches
	forms   forms
	reports ratelog.Log

	warnedOfDeadline atomic.Bool
}

// Configure is called once, before the first request. A field that is missing refuses
// each request, with an error that names it. Stats may be called before.
func (e *Engine) Configure(c Config) {
	e.Config = c
	e.everybody = &fanfare.Grant{Topics: c.Topics}
	e.nowhere = newNowhere()
	e.forms.most = max(0, cmp.Or(c.CacheBytes, DefaultCacheBytes))
}

func (e *Engine) log() *slog.Logger { return cmp.Or(e.Logger, slog.Default()) }

// Report logs an event that a client may cause as often as it likes. The log has at most
// two lines per second of those with the same message; see [ratelog.Log].
func (e *Engine) Report(level slog.Level, message string, args ...any) {
	e.reports.Write(context.Background(), e.Logger, ratelog.Kind{Level: level, Message: e.Name + ": " + message}, args...)
}

// ServeHTTP serves a request: it becomes a stream, or is refused.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request, t Transport) {
	if streamctx.Probed(w, r, e.lacks()) {
		return
	}
	claim := streamctx.ClaimOf(w, r)
	defer claim.AwaitWrappers()
	defer claim.Leave()
	o := e.admit(w, r, claim, t)
	if o == nil {
		return
	}
	defer o.abandon() // what did not begin, also after a panic in a wrapper's Hijack or WriteHeader
	if err := t.Begin(claim.Writer, r, o); err != nil && !o.begun {
		e.refuse(w, r, err)
	}
}

// lacks returns an error that names a field without which no request gets a stream, or nil.
func (e *Engine) lacks() error {
	switch {
	case e.Broadcaster == nil:
		return fmt.Errorf("%s: Handler.Broadcaster is nil", e.Name)
	case e.Grant == nil && len(e.Topics) == 0:
		return fmt.Errorf("%s: Handler has neither Topics nor Grant", e.Name)
	}
	return nil
}

// admit does all that comes before Begin. It returns nil if the request gets no stream, and
// has been answered.
//
// It is apart from ServeHTTP because the frames between the handler and the first write count:
// net/http's own way to a response's header leaves a few hundred bytes of 8 KB of stack, and
// a stack that had to grow stays at 16 KB until the next garbage collection.
func (e *Engine) admit(w http.ResponseWriter, r *http.Request, claim *streamctx.Claim, t Transport) *Opening {
	mode, err := t.Check(w, claim.Writer, r)
	if err != nil {
		e.refuse(w, r, err)
		return nil
	}
	o, err := e.open(r.WithContext(claim.Context), mode)
	if err != nil {
		if why := closeFor(err); mode.Close != nil && why != nil {
			e.refuseByClose(claim, r, mode, *why, err)
			return nil
		}
		e.refuse(w, r, err)
		return nil
	}
	taken := false
	defer func() {
		if !taken { // also after a panic in a wrapper's Header
			o.abandon()
		}
	}()
	if taken = e.take(claim, r, mode); !taken {
		return nil
	}
	return o
}

// take makes the claimed request a stream's. It reports false if that is too late.
func (e *Engine) take(claim *streamctx.Claim, r *http.Request, mode Mode) bool {
	if err := claim.Take(); err != nil {
		e.Report(slog.LevelInfo, "a stream came too late", "path", r.URL.Path, "reason", err)
		return false
	}
	claim.Announce(mode.Status, mode.Header, e.log())
	return true
}

// grant asks the handler's Grant what the client gets. ctx is the stream's.
func (e *Engine) grant(r *http.Request, ctx func() context.Context) (g *fanfare.Grant, err error) {
	if e.Grant == nil {
		return e.everybody, nil
	}
	r = r.WithContext(ctx())
	err = guard.Call("Handler.Grant", func() (err error) {
		g, err = e.Grant(r)
		return err
	})
	if p, ok := errors.AsType[*guard.PanicError](err); ok && p.Value == http.ErrAbortHandler {
		panic(http.ErrAbortHandler) // which net/http expects: it ends the request
	}
	switch {
	case err != nil:
		return nil, err
	case g == nil:
		return nil, fmt.Errorf("%s: Handler.Grant returned neither a Grant nor an error", e.Name)
	case len(g.Topics) == 0 && g.Change == nil:
		return nil, &fanfare.Refusal{Status: http.StatusForbidden, Err: errors.New("Handler.Grant returned a Grant without Topics, and without a Change to get some")}
	case !g.Expires.IsZero() && !time.Now().Before(g.Expires):
		return nil, &fanfare.Refusal{Status: http.StatusUnauthorized, Err: errors.New("the Grant had expired already")}
	}
	return g, nil
}

// refuse answers a request that gets no stream, and counts and logs it once. The log has
// at most two lines per second of those with the same status.
func (e *Engine) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refusal, err := e.noteRefusal(r, err)
	if e.ErrorHandler != nil {
		e.ErrorHandler(w, r, err)
		return
	}
	fanfare.Refuse(w, r, &refusal)
}

// noteRefusal counts and logs a refusal, and returns it.
func (e *Engine) noteRefusal(r *http.Request, err error) (fanfare.Refusal, error) {
	refusal, err := refusalOf(err)
	level := slog.LevelInfo
	switch {
	case r.Context().Err() != nil && errors.Is(err, context.Canceled):
		level = slog.LevelDebug // the client has left: not counted
	case refusal.Status == http.StatusInternalServerError:
		level = slog.LevelError
	}
	if level != slog.LevelDebug {
		e.counts.refuse(refusal.Status)
	}
	reason := err
	if r, ok := err.(*fanfare.Refusal); ok && r.Err != nil {
		reason = r.Err // its status has an attribute of its own
	}
	kind := ratelog.Kind{Level: level, Message: e.Name + ": refused a stream", Status: refusal.Status}
	e.reports.Write(r.Context(), e.Logger, kind, "path", r.URL.Path, "status", refusal.Status, "reason", reason)
	return refusal, err
}

// closeFor returns the reason of a close frame that says the same as an error's status;
// nil if there is none.
func closeFor(err error) *Reason {
	switch refusal, _ := refusalOf(err); refusal.Status {
	case http.StatusUnauthorized:
		return &unauthorized
	case http.StatusForbidden:
		return &forbidden
	}
	return nil
}

// refuseByClose is refuse for a client that has asked for a close frame. The request is
// counted by middleware, and can be cut by it, until the connection has ended.
func (e *Engine) refuseByClose(claim *streamctx.Claim, r *http.Request, mode Mode, why Reason, err error) {
	_, err = e.noteRefusal(r, err)
	if !e.take(claim, r, mode) {
		return
	}
	if failed := mode.Close(claim.Context, claim.Writer, r, why); failed != nil {
		e.Report(slog.LevelDebug, "a refusal by a close frame failed", "path", r.URL.Path, "refusal", err, "error", failed)
	}
}

// refusalOf returns how an error refuses a request. A Refusal whose Status cannot refuse
// becomes a 500, and the error says so.
func refusalOf(err error) (fanfare.Refusal, error) {
	refusal, ok := errors.AsType[*fanfare.Refusal](err)
	switch {
	case ok && refusal.Status == 0:
		r := *refusal
		r.Status = http.StatusForbidden
		return r, err
	case ok && status.Refuses(refusal.Status):
		return *refusal, err
	case ok:
		err = fmt.Errorf("%w: the Status of a Refusal must be 204 or from 400 to 599", err)
	case errors.Is(err, broadcast.ErrClosed), errors.Is(err, broadcast.ErrNotFollowing):
		return fanfare.Refusal{Status: http.StatusServiceUnavailable}, err
	}
	return fanfare.Refusal{Status: http.StatusInternalServerError}, err
}
