package inspect

import (
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// overview is the answer to show=overview.
type overview struct {
	Hubs     []hubView     `json:"hubs"`
	Handlers []handlerView `json:"handlers"`
}

type hubView struct {
	Name          string `json:"name"`
	Topics        int    `json:"topics"`
	Messages      int    `json:"messages"`
	Bytes         int64  `json:"bytes"`
	Subscriptions int    `json:"subscriptions"`
	Gaps          uint64 `json:"gaps"`
	Position      string `json:"position"` // empty while it is not known
	Published     uint64 `json:"published"`
	Journal       string `json:"journal"` // "none", "following", "behind" or "lost"
	Behind        uint64 `json:"behind"`
	Lag           int64  `json:"lag"`
}

type handlerView struct {
	Name     string            `json:"name"`
	Open     int               `json:"open"`
	Behind   int               `json:"behind"`
	Lag      int64             `json:"lag"`
	Opened   uint64            `json:"opened"`
	Resumed  uint64            `json:"resumed"`
	Messages uint64            `json:"messages"`
	Replayed uint64            `json:"replayed"`
	Bytes    uint64            `json:"bytes"`
	Gaps     uint64            `json:"gaps"`
	Ended    map[string]uint64 `json:"ended"`
	Refused  map[int]uint64    `json:"refused"`
}

// topicsPage is the answer to show=topics.
type topicsPage struct {
	All      int     `json:"all"`      // topics of the Hub
	Matching int     `json:"matching"` // those that have the text
	Topics   []topic `json:"topics"`
	Next     string  `json:"next"` // the after of the next page; empty: this is the last
}

type topic struct {
	Name          string `json:"name"`
	Events        int    `json:"events"`
	Values        int    `json:"values"`
	Subscriptions int    `json:"subscriptions"`
	Published     uint64 `json:"published"`
	Newest        string `json:"newest"`
	Ended         bool   `json:"ended"`
}

// streamsPage is the answer to show=streams.
type streamsPage struct {
	Open    int      `json:"open"`
	Streams []stream `json:"streams"`
}

type stream struct {
	Transport string `json:"transport"`
	Detached  bool   `json:"detached"`
	Resumed   bool   `json:"resumed"`
	Session   string `json:"session,omitempty"`
	Age       int64  `json:"age"`
	Silence   int64  `json:"silence"`
	Behind    bool   `json:"behind"`
	Lag       int64  `json:"lag"`
	Seq       uint64 `json:"seq"`
}

// viewOf returns what is shown of a Hub.
func viewOf(name string, hub *broadcast.Hub) hubView {
	s := hub.Stats()
	view := hubView{
		Name: name, Topics: s.Topics, Messages: s.Messages, Bytes: s.Bytes, Subscriptions: s.Subscriptions, Gaps: s.Gaps,
		Position: textOf(s.Position), Published: s.Position.Seq(), Behind: s.Behind, Lag: s.Lag.Milliseconds(),
	}
	switch {
	case hub.Journal == nil:
		view.Journal = "none"
	case !s.Following:
		view.Journal = "lost"
	case s.Lag > time.Second:
		view.Journal = "behind"
	default:
		view.Journal = "following"
	}
	return view
}

func streams(handler Streamer) streamsPage {
	page := streamsPage{Open: handler.Stats().Open, Streams: []stream{}}
	for _, s := range handler.Streams(pageSize) {
		page.Streams = append(page.Streams, stream{
			s.Transport, s.Detached, s.Resumed, s.Session, s.Age.Milliseconds(), s.Silence.Milliseconds(), s.Behind, s.Lag.Milliseconds(), s.Seq,
		})
	}
	return page
}

// textOf returns the text of an ID; none of the zero ID.
func textOf(id broadcast.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}
