package broadcast_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// newSmallServer returns a server that keeps 2 events and 3 values of each topic.
func newSmallServer(t *testing.T, engine *broadcasttest.Journal) *server {
	s := newStoppedServer(t, engine, nil)
	s.Keep, s.Values = 2, 3
	s.start()
	synctest.Wait()
	return s
}

// send publishes a message and waits until the server has it.
func (s *server) send(m broadcast.Message) broadcast.ID {
	s.t.Helper()
	id, err := s.Publish(s.t.Context(), m)
	require.NoError(s.t, err)
	synctest.Wait()
	return id
}

func (s *server) set(key, data string) broadcast.ID {
	s.t.Helper()
	return s.send(broadcast.Message{Topic: "x", Key: key, Data: []byte(data)})
}

// begin opens a subscription with Beginning, and returns it with its first Poll.
func (s *server) begin(topics ...string) (broadcast.Subscription, []string, *broadcast.BeginError) {
	s.t.Helper()
	sub, err := s.Subscribe(s.t.Context(), broadcast.SubscribeOptions{Topics: topics, Beginning: true})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { sub.Close() })
	synctest.Wait()
	texts, err := pollTexts(sub)
	var begin *broadcast.BeginError
	require.ErrorAs(s.t, err, &begin)
	return sub, texts, begin
}

// pollTexts polls once. Keys are before the Data, and removals end in "!".
func pollTexts(sub broadcast.Subscription) (texts []string, err error) {
	buf := make([]*broadcast.Message, 64)
	n, err := sub.Poll(buf)
	for _, m := range buf[:n] {
		text := string(m.Data)
		if m.Key != "" {
			text = m.Key + "=" + text
		}
		if m.Removed {
			text += "!"
		}
		texts = append(texts, text)
	}
	return texts, err
}

// What a client has missed of a topic with Keys comes from the journal in order and with IDs:
// of each Key the newest, and no event before First. The round of what the Hub has follows.
func TestHistoryHasTheNewestOfEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSmallServer(t, new(broadcasttest.Journal))
		begin := s.position()
		for i := range 200 { // many more than a history may have
			s.set("hot", fmt.Sprint(i))
		}
		for range 30 {
			s.send(broadcast.Message{Topic: "x", Data: []byte("before First")})
		}
		s.set("gone", "1")
		s.send(broadcast.Message{Topic: "x", Key: "gone", Removed: true})
		s.send(broadcast.Message{Topic: "x", First: true, Data: []byte("first")})
		for i := range 4 {
			s.set(fmt.Sprint("k", i), "1")
			s.send(broadcast.Message{Topic: "x", Data: []byte(fmt.Sprint(i))})
		}
		sub, err := s.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}, After: begin})
		require.NoError(t, err)
		defer sub.Close()
		require.Equal(t, "reading history", s.Stage(sub))
		synctest.Wait()
		var got []string
		for {
			texts, err := pollTexts(sub)
			require.NoError(t, err)
			if len(texts) == 0 {
				break
			}
			got = append(got, texts...)
		}
		require.Equal(t, []string{"hot=199", "gone=!", "first", "k0=1", "0", "k1=1", "1", "k2=1", "2", "k3=1", "3"}, got)
	})
}

// A history has at most twice Values Keys of each topic.
func TestHistoryOfKeysIsBounded(t *testing.T) {
	for keys, gap := range map[int]bool{6: false, 20: true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSmallServer(t, new(broadcasttest.Journal))
			begin := s.position()
			for i := range keys {
				s.set(fmt.Sprint("k", i), "1")
			}
			sub, err := s.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}, After: begin})
			require.NoError(t, err)
			defer sub.Close()
			synctest.Wait()
			_, err = pollTexts(sub)
			require.Equal(t, gap, errors.Is(err, broadcast.ErrGap), "%d Keys: %v", keys, err)
		})
	}
}

// What the tail has lost may have replaced or removed any Key, and may have been an end or a
// beginning: the Hub forgets its Keys and ends. A subscription with Beginning begins again.
func TestLossInTheTailEvictsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newSmallServer(t, engine)
		s.set("k", "1")
		s.send(broadcast.Message{Topic: "x", Data: []byte("end"), End: true})
		sub, texts, begin := s.begin("x", "y")
		require.Equal(t, []string{"end", "k=1"}, texts)
		require.Empty(t, begin.Partial)
		_, err := pollTexts(sub)
		require.NoError(t, err)

		s.lapse(engine, "x", "lost")
		texts, err = pollTexts(sub)
		require.ErrorAs(t, err, &begin)
		require.Equal(t, []string{"end"}, texts, "k may have another value, or none")
		require.Equal(t, []string{"x", "y"}, begin.Partial)
		_, err = s.Publish(t.Context(), broadcast.Message{Topic: "x", Data: []byte("it may have started over")})
		require.NoError(t, err)

		s.send(broadcast.Message{Topic: "y", First: true, Data: []byte("all of y")})
		_, _, begin = s.begin("x", "y")
		require.Equal(t, []string{"x"}, begin.Partial, "First vouches for what was lost")
	})
}

// A Hub that has not read the journal from its first entry says that topics may lack something,
// until an event with First.
func TestHubThatStartsLateBeginsPartially(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		first := newSmallServer(t, engine)
		first.set("k", "1")
		first.send(broadcast.Message{Topic: "y", Data: []byte("y")})
		whole := newSmallServer(t, engine)
		_, _, begin := whole.begin("x", "y")
		require.Empty(t, begin.Partial, "it has read all")

		engine.Trim(2)
		late := newSmallServer(t, engine)
		_, texts, begin := late.begin("x", "y")
		require.Empty(t, texts)
		require.Equal(t, []string{"x", "y"}, begin.Partial)
		late.send(broadcast.Message{Topic: "y", First: true, End: true, Data: []byte("all")})
		sub, texts, begin := late.begin("y")
		require.Equal(t, []string{"all"}, texts)
		require.Empty(t, begin.Partial)
		_, err := pollTexts(sub)
		require.ErrorIs(t, err, broadcast.ErrEnded)
	})
}

// A Hub that starts after the end of a topic knows of it if the journal still has that.
func TestHubThatStartsAfterAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		first := newSmallServer(t, engine)
		first.set("k", "1")
		first.send(broadcast.Message{Topic: "x", End: true, Data: []byte("end")})
		first.send(broadcast.Message{Topic: "y"})
		late := newSmallServer(t, engine)
		sub, texts, _ := late.begin("x")
		require.Equal(t, []string{"end", "k=1"}, texts)
		_, err := pollTexts(sub)
		require.ErrorIs(t, err, broadcast.ErrEnded)
		_, err = late.Publish(t.Context(), broadcast.Message{Topic: "x"})
		require.ErrorIs(t, err, broadcast.ErrEnded)

		engine.Trim(2)
		later := newSmallServer(t, engine)
		sub, _, begin := later.begin("x")
		require.Equal(t, []string{"x"}, begin.Partial)
		texts, err = pollTexts(sub)
		require.Empty(t, texts)
		require.NoError(t, err)
		later.send(broadcast.Message{Topic: "x", Data: []byte("on")})
	})
}

// Where two publishers race, what follows an end in the journal is delivered before ErrEnded.
func TestPublishersThatRaceAroundAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newSmallServer(t, engine)
		sub, _, _ := s.begin("x")
		_, err := engine.Append(t.Context(), broadcast.Message{Topic: "x", End: true, Data: []byte("end")}, broadcast.Message{Topic: "x", Data: []byte("late")})
		require.NoError(t, err)
		synctest.Wait()
		texts, err := pollTexts(sub)
		require.NoError(t, err)
		require.Equal(t, []string{"end", "late"}, texts)
		_, err = pollTexts(sub)
		require.ErrorIs(t, err, broadcast.ErrEnded)
		_, err = s.Publish(t.Context(), broadcast.Message{Topic: "x"})
		require.ErrorIs(t, err, broadcast.ErrEnded)
		s.send(broadcast.Message{Topic: "x", First: true})
	})
}

// A client that comes from a server further on gets no entry up to its position, and no end
// before this server has come there. A topic that it adds begins: all do then, since this server
// knows nothing that would follow.
func TestKeysOnAServerBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		ahead, behind := newSmallServer(t, engine), newSmallServer(t, engine)
		ahead.set("k", "1")
		behind.node.Hold()
		position := ahead.set("k", "2")
		sub, err := behind.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}, After: position, Beginning: true})
		require.NoError(t, err)
		defer sub.Close()
		synctest.Wait()
		texts, err := pollTexts(sub)
		require.NoError(t, err)
		require.Empty(t, texts, "1 is before the position")
		require.Equal(t, position, sub.Position())

		require.NoError(t, sub.(broadcast.TopicSetter).SetTopics([]string{"x", "y"}))
		texts, err = pollTexts(sub)
		require.Equal(t, &broadcast.BeginError{}, err)
		require.Equal(t, []string{"k=1"}, texts)
		behind.node.Release()
		synctest.Wait()
		texts, err = pollTexts(sub)
		require.NoError(t, err)
		require.Equal(t, []string{"k=2"}, texts)
		require.Equal(t, position, sub.Position())
	})
}

// In a new epoch nothing of the old one's Keys is left.
func TestKeysInANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newSmallServer(t, engine)
		s.set("old", "1")
		s.send(broadcast.Message{Topic: "x", End: true})
		sub, _, _ := s.begin("x")
		engine.Recreate()
		synctest.Wait()
		_, err := pollTexts(sub)
		require.ErrorIs(t, err, broadcast.ErrBegin)
		_, err = pollTexts(sub)
		require.NoError(t, err)
		s.set("new", "1")
		texts, err := pollTexts(sub)
		require.NoError(t, err)
		require.Equal(t, []string{"new=1"}, texts)
		require.Equal(t, 1, s.Stats().Messages)
	})
}

// An entry that no Publish of this Hub would have made is dropped.
func TestEntriesThatAreNoValidKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newSmallServer(t, engine)
		_, err := engine.Append(t.Context(), broadcast.Message{Topic: "x", Key: "k", First: true}, broadcast.Message{Topic: "x", Removed: true}, broadcast.Message{Topic: "x", Key: "k\x00"})
		require.NoError(t, err)
		synctest.Wait()
		s.set("k", "1")
		_, texts, begin := s.begin("x")
		require.Equal(t, []string{"k=1"}, texts)
		require.Empty(t, begin.Partial)
	})
}

// A topic that has ended as far as a server knows may go on where the client comes from.
func TestEndOnAServerBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		ahead, behind := newSmallServer(t, engine), newSmallServer(t, engine)
		ahead.send(broadcast.Message{Topic: "x", End: true})
		behind.node.Hold()
		position := ahead.send(broadcast.Message{Topic: "x", First: true})
		sub, err := behind.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}, After: position})
		require.NoError(t, err)
		defer sub.Close()
		synctest.Wait()
		texts, err := pollTexts(sub)
		require.NoError(t, err, "it has not come to the client's position")
		require.Empty(t, texts)
		behind.node.Release()
		synctest.Wait()
		_, err = pollTexts(sub)
		require.NoError(t, err)
		ahead.send(broadcast.Message{Topic: "x", End: true, Data: []byte("end")})
		texts, err = pollTexts(sub)
		require.NoError(t, err)
		require.Equal(t, []string{"end"}, texts)
		_, err = pollTexts(sub)
		require.ErrorIs(t, err, broadcast.ErrEnded)
	})
}

// A Hub that starts on a journal that compacts has the value of each Key, and of each topic the
// newest event with First and that with End. Only topics that lack events are partial.
func TestFreshHubHasTheStateOfACompactedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		old := newSmallServer(t, engine)
		early := old.position()
		old.set("a", "1")
		old.set("gone", "1")
		old.set("a", "2")
		old.send(broadcast.Message{Topic: "x", Key: "gone", Removed: true})
		old.send(broadcast.Message{Topic: "chat", Data: []byte("hello")})
		old.send(broadcast.Message{Topic: "chat", Key: "k", Data: []byte("1")})
		old.send(broadcast.Message{Topic: "text", Data: []byte("piece")})
		old.send(broadcast.Message{Topic: "text", First: true, Data: []byte("all")})
		old.send(broadcast.Message{Topic: "done", Data: []byte("piece")})
		old.send(broadcast.Message{Topic: "done", End: true, Data: []byte("end")})
		engine.Compact(100)
		late := old.position()
		old.set("b", "3")

		fresh := newSmallServer(t, engine)
		require.Equal(t, old.position(), fresh.position())
		for topic, want := range map[string]struct {
			texts   []string
			partial bool
		}{
			"x":     {[]string{"a=2", "b=3"}, false},
			"chat":  {[]string{"k=1"}, true},
			"text":  {[]string{"all"}, false},
			"done":  {[]string{"end"}, true},
			"never": {nil, false},
		} {
			_, texts, begin := fresh.begin(topic)
			require.Equal(t, want.texts, texts, topic)
			require.Equal(t, want.partial, begin.Partial != nil, "%s: partial %v", topic, begin.Partial)
		}
		_, err := fresh.Publish(t.Context(), broadcast.Message{Topic: "done"})
		require.ErrorIs(t, err, broadcast.ErrEnded)

		for after, gap := range map[broadcast.ID]bool{early: true, late: false} {
			sub, err := fresh.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}, After: after})
			require.NoError(t, err)
			defer sub.Close()
			synctest.Wait()
			_, err = pollTexts(sub)
			require.Equal(t, gap, errors.Is(err, broadcast.ErrGap), "after %v: %v", after, err)
		}
	})
}
