package broadcasttest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// kinds are messages with contents that an engine might change.
var kinds = []struct {
	name string
	msg  broadcast.Message
}{
	{"text", broadcast.Message{Topic: "a", Data: []byte("hello")}},
	{"all fields", broadcast.Message{Topic: "a", Type: "tick", From: "somebody", Data: []byte(`{"usd":42}`)}},
	{"no data", broadcast.Message{Topic: "a", Type: "tick"}},
	{"lines", broadcast.Message{Topic: "a", Data: []byte("one\ntwo\r\nthree\r\n\n")}},
	{"NUL in text", broadcast.Message{Topic: "a", Data: []byte("a\x00b")}},
	{"not ASCII", broadcast.Message{Topic: "a", Type: "größe", From: "Zoë", Data: []byte("日本語 🎺")}},
	{"bytes", broadcast.Message{Topic: "a", Binary: true, Data: []byte{0, 0xff, '\r', '\n', 0x80}}},
	{"no bytes", broadcast.Message{Topic: "a", Binary: true}},
	{"bytes that are text", broadcast.Message{Topic: "a", Binary: true, Data: []byte("hello")}},
	{"a longest type", broadcast.Message{Topic: "a", Type: strings.Repeat("t", 255)}},
	{"an ID set by the publisher", broadcast.Message{Topic: "a", ID: broadcast.MakeID(7, 7), Data: []byte("mine")}},
}

// validTopics are different topics. Many would be patterns in one engine or another.
var validTopics = []string{
	"a", "A", "a.b", "a.*", "a.>", "*", ">", "#", "+", "a/b", "a/+", "a/#", "[a]", "a?", "a b", " ", "\t", "a:b", "$a", "%", "%41",
	"{a}", "{b}", `"a"`, `a\b`, "größe", "日本語 🎺", strings.Repeat("x", 254), strings.Repeat("x", 255),
}

// requireSame checks that a message has the ID that Publish returned and the fields that were
// published.
func requireSame(t *testing.T, want broadcast.Message, id broadcast.ID, got broadcast.Message) {
	t.Helper()
	require.Equal(t, id, got.ID, "ID")
	require.Equal(t, want.Topic, got.Topic, "Topic")
	require.Equal(t, want.Type, got.Type, "Type")
	require.Equal(t, want.From, got.From, "From")
	require.Equal(t, want.Key, got.Key, "Key")
	require.Equal(t, []bool{want.Removed, want.First, want.End}, []bool{got.Removed, got.First, got.End}, "Removed, First and End")
	require.Equal(t, string(want.Data), string(got.Data), "Data")
	require.Equal(t, want.Binary, got.Binary, "Binary")
}

func testPublish(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	for _, kind := range kinds {
		id, err := b.Publish(background(t), kind.msg)
		require.NoError(t, err, kind.name)
		ms := s.until(id)
		require.Len(t, ms, 1, kind.name)
		requireSame(t, kind.msg, id, *ms[0])
	}
	s.empty()
	require.Zero(t, s.gaps, "the number of gaps")
}

func testOrder(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a", "b", "c")
	var want []string
	var last broadcast.ID
	for i, topic := range strings.Split("abacabacbbacabca", "") {
		text := fmt.Sprint(topic, i)
		id := publish(t, b, topic, text)
		require.Equal(t, last.IsZero(), last.Epoch() != id.Epoch(), "one epoch")
		require.Greater(t, id.Seq(), last.Seq(), "the sequence of what was published later")
		want, last = append(want, text), id
		if i == 5 {
			// Poll the first messages separately, so that the topics differ in what is left.
			require.Equal(t, want, texts(s.until(id)))
			want = nil
		}
	}
	s.exactly(last, want)
}

func testBetweenTopics(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a", "b")
	const n = 600
	flow := newFlow(t, c.Keep)
	done := flow.inBackground(t, b, []string{"a", "b"}, many("", 0, n))
	var got []string
	for len(got) < n {
		ms := s.count(min(3, n-len(got)))
		got = append(got, texts(ms)...)
		flow.release(len(ms))
	}
	require.Equal(t, many("", 0, n), got)
	require.Len(t, <-done, n)
	s.empty()
}

func testSeveralPublishers(t *testing.T, c Config) {
	b := c.Open(t)
	topics := []string{"a", "b", "c"}
	s, other := listen(t, b, topics...), listen(t, b, topics...)
	const each = 100
	flow := newFlow(t, c.Keep)
	var publishers []<-chan []broadcast.ID
	for _, name := range []string{"p", "q", "r", "s"} {
		publishers = append(publishers, flow.inBackground(t, b, topics, many(name, 0, each)))
	}
	var got []broadcast.ID
	byPublisher := make(map[string][]string)
	for len(got) < each*len(publishers) {
		ms, err := s.next()
		require.NoError(t, err)
		require.Equal(t, texts(ms), texts(other.count(len(ms))), "what the other subscription gets")
		for _, m := range ms {
			got = append(got, m.ID)
			name, _, _ := strings.Cut(string(m.Data), " ")
			byPublisher[name] = append(byPublisher[name], string(m.Data))
		}
		flow.release(len(ms))
	}
	for name, texts := range byPublisher {
		require.Equal(t, many(name, 0, each), texts, "the order of one publisher's messages")
	}
	for _, ids := range publishers {
		for _, id := range <-ids {
			require.Contains(t, got, id, "the IDs that Publish returned")
		}
	}
	s.empty()
	other.empty()
	require.Zero(t, other.gaps, "the number of gaps")
}

func testOneLog(t *testing.T, c Config) {
	b := c.Open(t)
	s, other := listen(t, b, "a"), listen(t, b, "a", "b")
	for i := range 50 {
		id := publish(t, b, "a", fmt.Sprint(i))
		s.exactly(id, []string{fmt.Sprint(i)})
		ms, err := other.poll(1)
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprint(i)}, texts(ms), "what another subscription has returned")
	}
}

func testSameMessage(t *testing.T, c Config) {
	b := c.Open(t)
	s, other := listen(t, b, "a"), listen(t, b, "b", "a")
	ids := publishMany(t, b, "a", 5)
	ms := s.until(ids[4])
	require.Len(t, ms, 5)
	for name, again := range map[string][]*broadcast.Message{
		"live":    other.until(ids[4]),
		"resumed": resume(t, b, ids[0], "a").until(ids[4]),
		"last":    subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, Last: 5}).until(ids[4]),
	} {
		for i, m := range again {
			require.Same(t, ms[len(ms)-len(again)+i], m, name)
		}
	}
}

func testExactTopics(t *testing.T, c Config) {
	b := c.Open(t)
	all := listen(t, b, validTopics...)
	var want []string
	var last broadcast.ID
	streams := make([]*stream, len(validTopics))
	for i, topic := range validTopics {
		streams[i] = listen(t, b, topic)
	}
	for _, topic := range validTopics {
		last = publish(t, b, topic, "on "+topic)
		want = append(want, "on "+topic)
	}
	all.exactly(last, want)
	for i, s := range streams {
		ms, err := s.next()
		require.NoError(t, err)
		require.Equal(t, want[i:i+1], texts(ms))
		require.Equal(t, validTopics[i], ms[0].Topic)
		s.empty()
	}
}

func testDuplicateTopics(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a", "b", "a", "a")
	publish(t, b, "a", "1")
	publish(t, b, "b", "2")
	last := publish(t, b, "a", "3")
	s.exactly(last, []string{"1", "2", "3"})
	first := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a", "a"}, Last: 5})
	first.exactly(last, []string{"1", "3"})
}

func testSmallBuffers(t *testing.T, c Config) {
	b := c.Open(t)
	start := listen(t, b, "a", "b").sub.Position()
	for range c.Keep / 2 {
		publish(t, b, "a", "a")
		publish(t, b, "b", "b")
	}
	last := publish(t, b, "a", "last")
	arrive(t, b, "a", last)
	var want []string
	for range c.Keep / 2 {
		want = append(want, "a", "b")
	}
	want = append(want, "last")
	for _, size := range []int{1, 2, 3, 7, len(want), 1000} {
		s := resume(t, b, start, "a", "b")
		var got []string
		for s.last != last {
			ms, err := s.poll(size)
			require.NoError(t, err)
			require.NotEmpty(t, ms, "before the end")
			got = append(got, texts(ms)...)
		}
		require.Equal(t, want, got, "with a buffer of %d", size)
		s.empty()
	}
}

func testEmptyPoll(t *testing.T, c Config) {
	b := c.Open(t)
	topics := []string{"a", "b", "c"}
	s := listen(t, b, topics...)
	for round := range 20 {
		var want []string
		var last broadcast.ID
		for i := range 6 {
			want = append(want, fmt.Sprint(round, i))
			last = publish(t, b, topics[(i+round)%3], want[i])
		}
		arrive(t, b, topics[(5+round)%3], last)
		var got []string
		for {
			ms, err := s.poll(4)
			require.NoError(t, err)
			if len(ms) == 0 {
				break // everything has arrived, so this must be the end
			}
			got = append(got, texts(ms)...)
		}
		require.Equal(t, want, got, "up to the empty Poll")
		s.empty()
	}
}
