package delivery_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

func TestEnvelope(t *testing.T) {
	id := broadcast.MakeID(0x1f, 0x2a)
	for _, test := range []struct {
		name string
		m    broadcast.Message
		id   broadcast.ID
		want string
	}{
		{"a message", broadcast.Message{ID: id, Topic: "prices", Type: "tick", Data: []byte(`{"usd":42}`)}, id,
			`{"id":"1f-2a","topic":"prices","type":"tick","data":"{\"usd\":42}"}`},
		{"no type where it is empty", broadcast.Message{ID: id, Topic: "a", Data: []byte("x")}, id,
			`{"id":"1f-2a","topic":"a","data":"x"}`},
		{"no ID if it is zero", broadcast.Message{ID: id, Topic: "a", Data: []byte("x")}, broadcast.ID{},
			`{"topic":"a","data":"x"}`},
		{"binary", broadcast.Message{ID: id, Topic: "a", Data: []byte{0xff, 0}, Binary: true}, id,
			`{"id":"1f-2a","topic":"a","data":"/wA=","encoding":"base64"}`},
		{"no data", broadcast.Message{ID: id, Topic: "a"}, id,
			`{"id":"1f-2a","topic":"a","data":""}`},
		{"a Key", broadcast.Message{ID: id, Topic: "a", Type: "t", Key: `"k`, Data: []byte("x")}, broadcast.ID{},
			`{"topic":"a","type":"t","key":"\"k","data":"x"}`},
		{"a removal", broadcast.Message{ID: id, Topic: "a", Key: "k", Removed: true, Binary: true}, id,
			`{"id":"1f-2a","topic":"a","key":"k","removed":true,"data":"","encoding":"base64"}`},
		{"the first and last event", broadcast.Message{ID: id, Topic: "a", First: true, End: true, Data: []byte("x")}, id,
			`{"id":"1f-2a","topic":"a","first":true,"end":true,"data":"x"}`},
		{"escaped is what has to be, and nothing else", broadcast.Message{ID: id, Topic: `<"\>`, Data: []byte("&<>\b\f\n\r\t\x00\x1f\x7f\u2028é")}, id,
			`{"id":"1f-2a","topic":"<\"\\>","data":"&<>\u0008\u000c\n\r\t\u0000\u001f` + "\x7f\u2028é" + `"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := delivery.Envelope(&test.m, test.id, test.m.Type, test.m.Data, test.m.Binary)
			require.NoError(t, err)
			assert.Equal(t, test.want, string(got))
		})
	}
	_, err := delivery.Envelope(&broadcast.Message{Topic: "a"}, broadcast.ID{}, "", []byte{0xff}, false)
	assert.Error(t, err, "data that is not UTF-8")
	_, err = delivery.Envelope(&broadcast.Message{Topic: "a"}, broadcast.ID{}, "\xff", nil, true)
	assert.Error(t, err, "a type that is not UTF-8")
	_, err = delivery.Envelope(&broadcast.Message{Topic: "\xff"}, broadcast.ID{}, "", nil, true)
	assert.Error(t, err, "a topic that is not UTF-8")
	_, err = delivery.Envelope(&broadcast.Message{Topic: "a", Key: "\xff"}, broadcast.ID{}, "", nil, true)
	assert.Error(t, err, "a key that is not UTF-8")
}

// Hub.MaxMessage counts what an envelope takes at most: with the longest ID, a type and an
// encoding.
func TestEnvelopeTakesWhatMaxMessageCounts(t *testing.T) {
	long := broadcast.MakeID(1<<64-1, 1<<64-1)
	const unused = len(`,"encoding":"base64"`)
	escapes := bytes.Repeat([]byte("a\"\\\n\r\t\x00\x1f\x7f<é\u2028日"), 9)
	for _, test := range []struct {
		name   string
		m      broadcast.Message
		unused int
	}{
		{"text", broadcast.Message{Topic: "prices", Type: "tick", Data: []byte("hello")}, unused},
		{"escapes", broadcast.Message{Topic: `<"\>` + "\x01", Type: "\t", Data: escapes}, unused},
		{"binary", broadcast.Message{Topic: "prices", Type: "tick", Data: escapes, Binary: true}, 0},
		{"no type, no data", broadcast.Message{Topic: "a"}, unused + len(`,"type":""`)},
		{"a removal", broadcast.Message{Topic: "a", Type: "t", Key: "k\"", Removed: true, Data: escapes}, unused},
		{"the first and last event", broadcast.Message{Topic: "a", Type: "t", First: true, End: true, Data: escapes}, unused},
	} {
		for n := range 64 {
			m := test.m
			m.Data = append(bytes.Repeat([]byte("x"), n), m.Data...)
			b, err := delivery.Envelope(&m, long, m.Type, m.Data, m.Binary)
			require.NoError(t, err)
			size := int64(len(b) + test.unused)
			_, err = (&broadcast.Hub{MaxMessage: size}).Publish(t.Context(), m)
			require.NoError(t, err, "%s, at the limit", test.name)
			_, err = (&broadcast.Hub{MaxMessage: size - 1}).Publish(t.Context(), m)
			require.ErrorIs(t, err, broadcast.ErrNotPublished, test.name)
			require.ErrorContains(t, err, fmt.Sprintf("the message takes %d bytes on the wire, Hub.MaxMessage is %d", size, size-1), test.name)
			_, err = (&broadcast.Hub{MaxMessage: -1}).Publish(t.Context(), m)
			require.NoError(t, err, "%s, without a limit", test.name)
		}
	}
}

func TestNoticeEnvelope(t *testing.T) {
	id := broadcast.MakeID(0x1f, 0x2a)
	assert.Equal(t, `{"ready":"1f-2a"}`, string(delivery.NoticeEnvelope(fanfare.Notice{Kind: fanfare.Ready, ID: id})))
	assert.Equal(t, `{"position":"1f-2a"}`, string(delivery.NoticeEnvelope(fanfare.Notice{Kind: fanfare.Position, ID: id})))
	assert.Equal(t, `{"gap":"1f-2a","topics":["a","\"b\""]}`,
		string(delivery.NoticeEnvelope(fanfare.Notice{Kind: fanfare.Gap, ID: id, Topics: []string{"a", `"b"`}})))
	assert.Equal(t, `{"begin":"1f-2a","topics":["a","\"b\""],"partial":["a"]}`,
		string(delivery.NoticeEnvelope(fanfare.Notice{Kind: fanfare.Begin, ID: id, Topics: []string{"a", `"b"`}, Partial: []string{"a"}})))
	assert.Equal(t, `{"end":"1f-2a"}`, string(delivery.NoticeEnvelope(fanfare.Notice{Kind: fanfare.End, ID: id})))
}

// FuzzEnvelope reads back with encoding/json what was written without it.
func FuzzEnvelope(f *testing.F) {
	f.Add("prices", "tick", []byte(`{"usd":42}`), false)
	f.Add("a\x00b", "\u2028\\\"", []byte{0xff, 0xfe}, true)
	f.Add("\xed\xa0\x80", "", []byte("\x1f\x7f"), false)
	f.Fuzz(func(t *testing.T, topic, typ string, data []byte, binary bool) {
		m := broadcast.Message{ID: broadcast.MakeID(2, 3), Topic: topic}
		got, err := delivery.Envelope(&m, m.ID, typ, data, binary)
		if err != nil {
			if utf8.ValidString(topic) && utf8.ValidString(typ) && (binary || utf8.Valid(data)) {
				t.Fatal(err)
			}
			return
		}
		var back struct{ ID, Topic, Type, Data, Encoding string }
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		want := string(data)
		if binary {
			want = base64.StdEncoding.EncodeToString(data)
		}
		if back.ID != "2-3" || back.Data != want || binary != (back.Encoding == "base64") {
			t.Fatalf("%+v from %s", back, got)
		}
		if back.Topic != topic || back.Type != typ {
			t.Fatalf("%+v from %s", back, got)
		}
		if !utf8.Valid(got) {
			t.Fatalf("not UTF-8: %q", got)
		}
	})
}

// TestEnvelopeAllocs checks that an envelope takes one allocation, its own.
func TestEnvelopeAllocs(t *testing.T) {
	for name, m := range map[string]broadcast.Message{
		"text":   {ID: broadcast.MakeID(0x1f, 0x2a), Topic: "prices", Type: "tick", Data: []byte(`{"usd":42}`)},
		"binary": {ID: broadcast.MakeID(0x1f, 0x2a), Topic: "prices", Data: []byte{0xff, 0}, Binary: true},
	} {
		assert.LessOrEqual(t, testing.AllocsPerRun(100, func() {
			_, _ = delivery.Envelope(&m, m.ID, m.Type, m.Data, m.Binary)
		}), 1.0, name)
	}
}

func BenchmarkEnvelope(b *testing.B) {
	m := broadcast.Message{ID: broadcast.MakeID(0x1f, 0x2a), Topic: "prices", Type: "tick", Data: []byte(`{"usd":42,"at":"2026-01-02T03:04:05Z"}`)}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = delivery.Envelope(&m, m.ID, m.Type, m.Data, m.Binary)
	}
}
