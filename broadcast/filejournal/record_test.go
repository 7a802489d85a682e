package filejournal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

// A record has each field of its message.
func TestRecordHasAllFields(t *testing.T) {
	for _, m := range []broadcast.Message{
		{Topic: "a", Type: "b", From: "c", Data: []byte("d"), Binary: true},
		{Topic: "a", Key: "k", Data: []byte("d")},
		{Topic: "a", Key: "k", Removed: true, Binary: true},
		{Topic: "a", First: true},
		{Topic: "a", End: true},
		{Topic: "a", First: true, End: true, Binary: true},
	} {
		b, err := filejournal.Record{Seq: 7, Time: 9, Message: m}.Bytes()
		require.NoError(t, err)
		got, err := filejournal.ParseRecord(b)
		require.NoError(t, err)
		require.Equal(t, filejournal.Record{Seq: 7, Time: 9, Message: m}, got)
	}
}

// What is parsed as a record is one, and a record is parsed as what it was made of.
func FuzzRecord(f *testing.F) {
	for _, m := range []broadcast.Message{
		{},
		{Topic: "a"},
		{Topic: "room:1", Type: "chat", From: "ann", Data: []byte("hello")},
		{Topic: "a", Data: []byte{0, 255}, Binary: true},
		{Topic: "a", Key: "k", Removed: true},
		{Topic: "a", First: true, End: true},
		{Topic: strings.Repeat("x", 255), Data: []byte(strings.Repeat("y", 10_000))},
	} {
		b, err := filejournal.Record{Message: m}.Bytes()
		require.NoError(f, err)
		f.Add(b, m.Topic, m.Type, m.From, m.Key, m.Data, m.Binary, m.First)
	}
	f.Fuzz(func(t *testing.T, b []byte, topic, typ, from, key string, data []byte, binary, first bool) {
		parsesAgain(t, b)
		parsesAgain(t, filejournal.Sealed(b)) // a mutated checksum alone would never be right
		if len(data) == 0 {
			data = nil
		}
		want := filejournal.Record{Seq: 7, Time: 9, Message: broadcast.Message{
			Topic: topic, Type: typ, From: from, Key: key, Data: data, Binary: binary, First: first, Removed: key != "" && first, End: binary}}
		made, err := want.Bytes()
		require.NoError(t, err)
		got, err := filejournal.ParseRecord(made)
		require.NoError(t, err)
		require.Equal(t, want, got)
		for i := 0; i < len(made); i += 1 + len(made)/64 { // each byte of a large record would take for ever
			made[i] ^= 1 << (i % 8)
			_, err := filejournal.ParseRecord(made)
			require.Error(t, err, "byte %d is not what was written", i)
			made[i] ^= 1 << (i % 8)
		}
	})
}

// parsesAgain checks that what is parsed from bytes is, once written, parsed as the same.
func parsesAgain(t *testing.T, b []byte) {
	r, err := filejournal.ParseRecord(b)
	if err != nil {
		return
	}
	again, err := r.Bytes()
	require.NoError(t, err)
	parsed, err := filejournal.ParseRecord(again)
	require.NoError(t, err)
	require.Equal(t, r, parsed)
}
