package delivery

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Streams returns snapshots of open streams, at most so many: those with the longest lag first,
// then the oldest. It knows those that an http.Server has accepted.
func (e *Engine) Streams(most int) []fanfare.StreamInfo {
	if most <= 0 {
		return nil
	}
	var all []fanfare.StreamInfo
	now := e.clock.now()
	e.servers.each(func(s *Stream) {
		all = append(all, s.info(now))
		if len(all) >= 2*most+64 {
			all = worst(all, most)
		}
	})
	return worst(all, most)
}

// worst returns the streams that lag longest, then the oldest.
func worst(all []fanfare.StreamInfo, most int) []fanfare.StreamInfo {
	slices.SortFunc(all, func(a, b fanfare.StreamInfo) int {
		return cmp.Or(cmp.Compare(b.Lag, a.Lag), cmp.Compare(b.Age, a.Age))
	})
	return all[:min(most, len(all))]
}

// info returns a snapshot of the stream, from any goroutine.
func (s *Stream) info(now time.Duration) fanfare.StreamInfo {
	info := fanfare.StreamInfo{
		Transport: s.engine.Name, Detached: s.detached, Resumed: s.resumed,
		Age: max(0, now-s.beats.began), Silence: max(0, s.beats.silence(now)), Seq: s.sentPosition.seq.Load(),
	}
	if s.polling {
		info.Transport = "poll"
	}
	if key := s.holds.Key(); key != (streamctx.Key{}) {
		info.Session = hex.EncodeToString(key[:])
	}
	info.Behind, info.Lag = s.lag(now)
	return info
}
