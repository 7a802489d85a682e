package delivery

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// Renew gives the stream a fresh token. The client gets an answer in turn. Only the latest
// token counts.
func (s *Stream) Renew(token string) {
	s.asking().token.Store(&token)
	s.notify()
}

// MayRenew reports whether the Grant takes fresh tokens, which no change takes away. It is
// called before the stream begins.
func (s *Stream) MayRenew() bool { return s.grant.Renew != nil }

// renew has the client's token checked, if there is one, and answers once the stream has
// begun.
func (s *Stream) renew(b *batch, w *Worker) {
	r := s.requests.Load()
	if r == nil {
		return
	}
	if r.token.Load() != nil && !r.postpone(s) {
		token := *r.token.Swap(nil)
		w.Wait() // for the Grant
		r.renewal = s.renewWith(token)
	}
	if r.renewal != nil && !b.beginning {
		r.renewal.ID = s.sub.Position()
		b.add(s.encodeNotice(*r.renewal)) // a position in it does not count as sent
		r.renewal = nil
	}
}

func (s *Stream) renewWith(token string) *fanfare.Notice {
	var expires time.Time
	err := guard.Call("Grant.Renew", func() (err error) {
		expires, err = s.grant.Renew(token)
		return err
	})
	if err != nil {
		refusal, err := refusalOf(err)
		level := slog.LevelInfo
		if refusal.Status == http.StatusInternalServerError {
			level = slog.LevelError
		}
		kind := ratelog.Kind{Level: level, Message: s.engine.Name + ": refused a token", Status: refusal.Status}
		s.engine.reports.Write(context.Background(), s.engine.Logger, kind, "status", refusal.Status, "reason", err)
		return &fanfare.Notice{Kind: fanfare.Renewed, Status: refusal.Status}
	}
	s.expireAt(expires)
	return &fanfare.Notice{Kind: fanfare.Renewed, Expires: s.lifeLeft()}
}

// expireAt replaces the time when the stream expires; zero: never.
func (s *Stream) expireAt(expires time.Time) {
	s.ending.expires.Store(int64(s.engine.clock.at(expires)))
	if left := s.checkExpiry(); left > 0 {
		s.engine.clock.schedule(s, left) // the next tick may be later, or there is none
	}
}

// checkExpiry ends the stream if it has expired, and returns how long it has still to
// live; 0: it does not expire.
func (s *Stream) checkExpiry() time.Duration {
	left, expires := s.untilExpiry()
	if expires && left <= 0 {
		s.End(Expired)
		return 0
	}
	return left
}

// untilExpiry returns whether the stream expires, and how long it has still to live.
func (s *Stream) untilExpiry() (left time.Duration, expires bool) {
	at := time.Duration(s.ending.expires.Load())
	if at == 0 {
		return 0, false
	}
	return at - s.engine.clock.now(), true
}

// maxLifeLeft is how many milliseconds setTimeout of a browser takes: it calls at once after
// more, and a page would renew its stream without a pause.
const maxLifeLeft = (1<<31 - 1) * time.Millisecond

// lifeLeft is what the client is told of when the stream expires, where it may renew it; 0:
// nothing.
func (s *Stream) lifeLeft() time.Duration {
	left, expires := s.untilExpiry()
	if s.grant.Renew == nil || !expires || left > maxLifeLeft {
		return 0
	}
	return max(time.Millisecond, left)
}
