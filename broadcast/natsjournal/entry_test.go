package natsjournal_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Topic, Type and From are yielded as they were appended, whatever a header can hold.
func TestEntryNames(t *testing.T) {
	j := startEngine(t).journal()
	f := follow(t, j, broadcast.ID{})
	for _, name := range []string{" a", "a ", "\ta\t", " ", "%20", "a+b", "a\r\nB: c", "\x00", "\xff", "größe"} {
		m := broadcast.Message{Topic: name, Type: name, Key: name, From: name, Data: []byte{}, Removed: name == " ", First: name == "%20", End: name == "a+b"}
		ids, err := j.Append(within(t), m)
		require.NoError(t, err)
		m.ID = ids[0]
		got, err := f.next()
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
}

// An entry that is not a message is yielded as its ID alone.
func TestForeignEntries(t *testing.T) {
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

// An entry has its fields by name. One that another version of this package has written, with
// fields that this one does not know, is yielded without them.
func TestEntriesOfOtherVersions(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	first := add(t, j, "first")
	subject := stream(t, admin(t, j.Conn)).CachedInfo().Config.Subjects[0]
	for _, header := range []nats.Header{
		{"Fanfare-Topic": {"t%2F1"}, "Fanfare-Type": {"price"}, "Fanfare-From": {"me"}, "Fanfare-Binary": {"1"}}, // of the first version
		{"Fanfare-Topic": {"t%2F1"}, "Fanfare-Type": {"price"}, "Fanfare-From": {"me"}, "Fanfare-Binary": {"1"},
			"Fanfare-Later": {"%zz"}, "Fanfare-Empty": {""}, "Other": {"x", "y"}},
	} {
		_, err := j.Conn.RequestMsg(&nats.Msg{Subject: subject, Header: header, Data: []byte("data")}, soon)
		require.NoError(t, err)
	}
	f := follow(t, j, first[0])
	for i := range uint64(2) {
		m, err := f.next()
		require.NoError(t, err)
		require.Equal(t, broadcast.Message{ID: broadcast.MakeID(first[0].Epoch(), 2+i), Topic: "t/1", Type: "price", From: "me",
			Data: []byte("data"), Binary: true}, m)
	}
}
