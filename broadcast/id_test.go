package broadcast_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func TestParseID(t *testing.T) {
	for _, test := range []struct {
		text, reason string
		want         broadcast.ID
		bad          bool
	}{
		{text: "", want: broadcast.ID{}, reason: "no position"},
		{text: "1f-2a", want: broadcast.MakeID(0x1f, 0x2a), reason: "hexadecimal"},
		{text: "2-0", want: broadcast.MakeID(2, 0), reason: "the beginning of a log"},
		{text: "ffffffffffffffff-ffffffffffffffff", want: broadcast.MakeID(math.MaxUint64, math.MaxUint64), reason: "the largest"},
		{text: "1f", bad: true, reason: "no sequence"},
		{text: "1f-", bad: true, reason: "an empty sequence"},
		{text: "-2a", bad: true, reason: "an empty epoch"},
		{text: "0-2a", bad: true, reason: "epoch 0 has no positions"},
		{text: "01f-2a", bad: true, reason: "a leading zero: two texts of one ID would not be comparable"},
		{text: "1f-02a", bad: true, reason: "a leading zero"},
		{text: "1F-2A", bad: true, reason: "upper case"},
		{text: "1f-2a ", bad: true, reason: "trailing text"},
		{text: "1f-2a-3", bad: true, reason: "three parts"},
		{text: "10000000000000000-1", bad: true, reason: "an epoch of more than 64 bits"},
		{text: "1-10000000000000000", bad: true, reason: "a sequence of more than 64 bits"},
		{text: "1f-2a\x00", bad: true, reason: "a NUL"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			id, err := broadcast.ParseID(test.text)
			if test.bad {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, id)
			assert.Equal(t, test.text, id.String())
		})
	}
}

func TestIDInJSON(t *testing.T) {
	type page struct{ Position broadcast.ID }
	text, err := json.Marshal(page{broadcast.MakeID(0x1f, 0x2a)})
	require.NoError(t, err)
	assert.JSONEq(t, `{"Position":"1f-2a"}`, string(text))
	var p page
	require.NoError(t, json.Unmarshal(text, &p))
	assert.Equal(t, broadcast.MakeID(0x1f, 0x2a), p.Position)
	assert.Error(t, json.Unmarshal([]byte(`{"Position":"nonsense"}`), &p))
}

func TestMakeID(t *testing.T) {
	assert.True(t, broadcast.MakeID(0, 7).IsZero(), "epoch 0 has no positions")
	assert.False(t, broadcast.MakeID(1, 0).IsZero())
}

func FuzzParseID(f *testing.F) {
	for _, seed := range []string{"", "1f-2a", "0-0", "01-1", "ffffffffffffffff-ffffffffffffffff", "1f-2a\n"} {
		f.Add(seed, uint64(31), uint64(42))
	}
	f.Fuzz(func(t *testing.T, text string, epoch, seq uint64) {
		if id, err := broadcast.ParseID(text); err == nil && id.String() != text {
			t.Fatalf("%q parses, but is written %q", text, id)
		}
		id := broadcast.MakeID(epoch, seq)
		parsed, err := broadcast.ParseID(id.String())
		if err != nil || parsed != id {
			t.Fatalf("%v is read back as %v, %v", id, parsed, err)
		}
	})
}
