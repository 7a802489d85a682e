package broadcasttest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testFromNowOn(t *testing.T, c Config) {
	b := c.Open(t)
	for i := range 20 {
		publish(t, b, "a", "before")
		publish(t, b, "b", "before")
		s := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a", "b"}})
		after := fmt.Sprint("after ", i)
		s.exactly(publish(t, b, "a", after), []string{after})
		s.close()
	}
}

func testResume(t *testing.T, c Config) {
	b := c.Open(t)
	topics := []string{"a", "b"}
	start := listen(t, b, topics...).sub.Position()
	ids := []broadcast.ID{start}
	var all []string
	for i := range c.Keep {
		all = append(all, fmt.Sprint(i))
		ids = append(ids, publish(t, b, topics[i%3%2], all[i]))
	}
	last := ids[len(ids)-1]
	for i, id := range ids {
		s := resume(t, b, id, topics...)
		if i < len(all) {
			s.exactly(last, all[i:], "after message %d", i)
		} else {
			s.empty()
		}
	}
	// Live messages follow the kept ones.
	var streams []*stream
	for _, id := range ids {
		streams = append(streams, resume(t, b, id, topics...))
	}
	live := publish(t, b, "b", "live")
	for i, s := range streams {
		s.exactly(live, append(all[i:len(all):len(all)], "live"), "after message %d", i)
	}
}

func testResumeOtherTopics(t *testing.T, c Config) {
	b := c.Open(t)
	topics := []string{"a", "b", "c"}
	s := listen(t, b, "a")
	var ids []broadcast.ID
	var ofA []int
	for i := range c.Keep {
		ids = append(ids, publish(t, b, topics[i%3], fmt.Sprint(i)))
		if i%3 == 0 {
			ofA = append(ofA, i)
		}
	}
	marker := publish(t, b, "b", "marker")
	s.until(ids[ofA[len(ofA)-1]])
	for _, seen := range ofA {
		var want []string
		for i := seen + 1; i < len(ids); i++ {
			if i%3 != 0 {
				want = append(want, fmt.Sprint(i))
			}
		}
		resume(t, b, ids[seen], "c", "b").exactly(marker, append(want, "marker"), "after message %d", seen)
	}
}

func testResumeBeginning(t *testing.T, c Config) {
	b := c.Open(t)
	publishMany(t, b, "a", 3)
	unpolled := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}})
	beginning := unpolled.sub.Position()
	unpolled.close()
	id := publish(t, b, "a", "missed")
	s := resume(t, b, beginning, "a")
	require.Equal(t, beginning, s.sub.Position(), "the first Position of the resumed subscription")
	s.exactly(id, []string{"missed"})
}

// testCut acts as a stream and its client. The stream sends its position, then batches of
// messages, each message with its ID, and when nothing is left its position again. The client
// resumes at the last position or ID that it got.
func testCut(t *testing.T, c Config) {
	b := c.Open(t)
	topics := []string{"a", "b"}
	var want, got []string
	n := 0
	publishSome := func(some int) (last broadcast.ID) {
		for range some {
			want = append(want, fmt.Sprint(n))
			topic := topics[n%5%2]
			last = publish(t, b, topic, want[n])
			arrive(t, b, topic, last) // so that the client never lags far behind
			n++
		}
		return last
	}
	sentPosition := listen(t, b, topics...).sub.Position()
	for session := range 60 {
		if session < 40 {
			publishSome(session % 3)
		} else if session == 40 {
			publishSome(1) // so that the last sessions have something to wait for
		}
		s := resume(t, b, sentPosition, topics...)
		writes := session % 6 // then the connection breaks
		if writes > 0 {
			sentPosition = s.sub.Position()
		}
		for write := 1; write < writes; {
			ms, err := s.poll(1 + session%3)
			require.NoError(t, err)
			for _, m := range ms {
				if write++; write > writes {
					break // polled, but not sent any more
				}
				sentPosition = m.ID
				got = append(got, string(m.Data))
			}
			if len(ms) == 0 {
				sentPosition = s.sub.Position()
				break
			}
		}
		s.close()
	}
	last := publishSome(1)
	s := resume(t, b, sentPosition, topics...)
	got = append(got, texts(s.until(last))...)
	require.Equal(t, want, got)
	require.Zero(t, s.gaps, "the number of gaps")
}

func testResumeTooOld(t *testing.T, c Config) {
	b := c.Open(t)
	start := listen(t, b, "a").sub.Position()
	n := 2*c.Keep + 3
	ids := append([]broadcast.ID{start}, publishMany(t, b, "a", n)...)
	last := ids[n]
	arrive(t, b, "a", last)
	for i, id := range ids {
		s := resume(t, b, id, "a")
		switch {
		case i == n:
			s.empty()
		case i >= n-c.Keep:
			s.exactly(last, many("a", i, n), "after message %d", i)
		default:
			ms, err := s.next()
			got := texts(append(ms, s.until(last)...))
			if err == nil {
				require.Equal(t, many("a", i, n), got, "without a gap, after message %d", i)
			} else {
				require.Equal(t, many("a", n-c.Keep, n), got, "with a gap, after message %d", i)
			}
			s.empty()
			require.LessOrEqual(t, s.gaps, 1, "the number of gaps")
		}
		s.close()
	}
}
