package natsjournal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

func TestJournalConforms(t *testing.T) {
	e := startEngine(t)
	broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal { return fresh(t, e) })
}

// fresh returns a journal on a stream that nobody else has.
func fresh(t *testing.T, e *engine) *natsjournal.Journal {
	j := journal(connect(t, e.ClientURL()))
	j.Stream = nats.NewInbox()[len("_INBOX."):]
	t.Cleanup(func() { admin(t, connect(t, e.ClientURL())).DeleteStream(t.Context(), j.Stream) })
	j.MaxBytes = 1 << 20
	return j
}

func TestHubOnJournalConforms(t *testing.T) {
	const keep = 16
	e := startEngine(t)
	open := func(t *testing.T, j broadcast.Journal) broadcast.Broadcaster {
		hub := &broadcast.Hub{Keep: keep, Journal: j}
		run(t, hub)
		return hub
	}
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{
		Open: func(t *testing.T) broadcast.Broadcaster { return open(t, fresh(t, e)) },
		Keep: keep,
		Restart: func(t *testing.T, old broadcast.Broadcaster) broadcast.Broadcaster {
			hub := old.(*broadcast.Hub)
			require.NoError(t, hub.Close())
			return open(t, hub.Journal)
		},
	})
}

// run lets the Hub follow its Journal, and waits until it knows where that stands.
func run(t *testing.T, hub *broadcast.Hub) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(t.Context()) }()
	t.Cleanup(func() {
		hub.Close()
		<-ended
	})
	require.Eventually(t, func() bool { return !hub.Stats().Position.IsZero() }, soon, time.Millisecond)
}

func TestForeignEntriesCountByTheirID(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	first := add(t, j, "first")[0]
	subject := stream(t, admin(t, j.Conn)).CachedInfo().Config.Subjects[0]
	for _, foreign := range []*nats.Msg{
		{Subject: subject, Data: []byte("no headers")},
		{Subject: subject, Header: nats.Header{"Status": {"503"}}},
		{Subject: subject, Header: nats.Header{"Fanfare-Topic": {"%zz"}}, Data: []byte("not escaped")},
		{Subject: subject, Header: nats.Header{"Fanfare-Topic": {""}}},
		{Subject: subject, Header: nats.Header{"Fanfare-Topic": {"t"}, "Fanfare-Type": {"%"}}},
	} {
		_, err := j.Conn.RequestMsg(foreign, soon)
		require.NoError(t, err)
	}
	f := follow(t, j, broadcast.ID{})
	f.yields([]broadcast.ID{first}, "first")
	for i := range uint64(5) {
		m, err := f.next()
		require.NoError(t, err)
		require.Equal(t, broadcast.Message{ID: broadcast.MakeID(first.Epoch(), first.Seq()+1+i)}, m)
	}
	f.yields(add(t, j, "last"), "last")
}

func TestNamesSurvive(t *testing.T) {
	j := startEngine(t).journal()
	f := follow(t, j, broadcast.ID{})
	for _, name := range []string{" a", "a ", "\ta\t", " ", "%20", "a+b", "a\r\nB: c", "\x00", "\xff", "größe"} {
		m := broadcast.Message{Topic: name, Type: name, From: name, Data: []byte{}}
		ids, err := j.Append(within(t), m)
		require.NoError(t, err)
		m.ID = ids[0]
		got, err := f.next()
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	first := add(t, j, "0", "1", "2")[0] // and with it the subscription for acknowledgements
	s := stream(t, admin(t, j.Conn))
	consumers := func() int {
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		return info.State.Consumers
	}
	before, beforeHere := e.NumSubscriptions(), j.Conn.NumSubscriptions()
	clean := func() bool {
		return consumers() == 0 && e.NumSubscriptions() == before && j.Conn.NumSubscriptions() == beforeHere
	}

	broken := follow(t, j, first)
	broken.yields(nil, "1")
	require.Equal(t, 1, consumers(), "one for each Tail")
	broken.stop()
	require.Eventually(t, clean, soon, moment, "after break")

	cancelled := follow(t, j, first)
	cancelled.yields(nil, "1", "2")
	cancelled.cancel()
	_, _, ok := cancelled.pull()
	require.True(t, ok)
	require.Eventually(t, clean, soon, moment, "after the end of ctx")

	hub := &broadcast.Hub{Journal: j}
	run(t, hub)
	require.Eventually(t, func() bool { return consumers() == 1 }, soon, moment)
	hub.Close()
	require.Eventually(t, clean, soon, moment, "after Hub.Close")
}

func TestSettingsThatDoNotFit(t *testing.T) {
	tests := []struct {
		name   string
		change func(*natsjournal.Journal)
		says   string
	}{
		{"age", func(j *natsjournal.Journal) { j.MaxAge = time.Hour }, "a maximum age of 24h0m0s, this node wants 1h0m0s: change the stream, or set Journal.MaxAge alike on all nodes"},
		{"messages", func(j *natsjournal.Journal) { j.MaxMessages = -1 }, "a maximum of messages of 1000000, this node wants -1"},
		{"bytes", func(j *natsjournal.Journal) { j.MaxBytes = 1 << 21 }, "a maximum of bytes of 67108864, this node wants 2097152"},
		{"replicas", func(j *natsjournal.Journal) { j.Replicas = 3 }, "a number of replicas of 1, this node wants 3"},
		{"storage", func(j *natsjournal.Journal) { j.Memory = true }, "a storage of File, this node wants Memory"},
		{"subject", func(j *natsjournal.Journal) { j.Subject = "other" }, `this node wants "other.<number>"`},
		{"impossible age", func(j *natsjournal.Journal) { j.MaxAge = time.Second }, "Journal.MaxAge is 1s: it must be at least a minute"},
		{"impossible replicas", func(j *natsjournal.Journal) { j.Replicas = -1 }, "Journal.Replicas is -1"},
		{"no connection", func(j *natsjournal.Journal) { j.Conn = nil }, "Journal.Conn is nil"},
	}
	e := startEngine(t)
	own := e.journal()
	add(t, own, "first")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			other := journal(own.Conn)
			test.change(other)
			_, err := other.Append(within(t), message("x"))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			require.ErrorContains(t, err, test.says)
			_, _, err = other.Bounds(within(t))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			_, err = follow(t, other, broadcast.ID{}).next()
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
		})
	}
	add(t, own, "and on")
}

func TestSettingsOfAForeignStream(t *testing.T) {
	e := startEngine(t)
	own := e.journal()
	add(t, own, "first")
	js := admin(t, own.Conn)
	config := stream(t, js).CachedInfo().Config
	config.Subjects = append(config.Subjects, "more")
	_, err := js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	_, _, err = own.Bounds(within(t))
	require.ErrorIs(t, err, natsjournal.ErrUnusable)
	assert.ErrorContains(t, err, "set Journal.Subject alike on all nodes")
}
