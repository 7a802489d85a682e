package sse_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// reference reads a stream as the standard words it (WHATWG HTML 9.2.6), whole,
// slowly and without a limit.
func reference(stream string) outcome {
	stream = decodeUTF8(stream)
	stream = strings.TrimPrefix(stream, "\uFEFF")
	lines := strings.Split(newLines.Replace(stream), "\n")
	lines = lines[:len(lines)-1] // the last one has no end

	o := outcome{Err: "EOF"}
	var data, typ, id string
	var retry time.Duration
	for _, line := range lines {
		if line == "" {
			o.LastID = id
			if data != "" {
				o.Events = append(o.Events, sse.Event{ID: id, Type: typ, Data: []byte(strings.TrimSuffix(data, "\n")), Retry: retry})
			}
			data, typ, retry = "", "", 0
			continue
		}
		if strings.HasPrefix(line, ":") {
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			typ = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				value = strings.TrimLeft(value, "0")
				const most = "9223372036854"
				if len(value) > len(most) || len(value) == len(most) && value > most {
					value = most
				}
				retry, _ = time.ParseDuration("0" + value + "ms")
				o.Retry = retry
			}
		}
	}
	return o
}

// decodeUTF8 is the decoder of WHATWG Encoding 8.1.1, step by step.
func decodeUTF8(s string) string {
	var out strings.Builder
	var needed, seen int
	var point rune
	lower, upper := byte(0x80), byte(0xBF)
	for i := 0; i < len(s); i++ {
		b := s[i]
		if needed == 0 {
			switch {
			case b <= 0x7F:
				out.WriteByte(b)
			case 0xC2 <= b && b <= 0xDF:
				needed, point = 1, rune(b&0x1F)
			case 0xE0 <= b && b <= 0xEF:
				if b == 0xE0 {
					lower = 0xA0
				}
				if b == 0xED {
					upper = 0x9F
				}
				needed, point = 2, rune(b&0xF)
			case 0xF0 <= b && b <= 0xF4:
				if b == 0xF0 {
					lower = 0x90
				}
				if b == 0xF4 {
					upper = 0x8F
				}
				needed, point = 3, rune(b&0x7)
			default:
				out.WriteRune('\uFFFD')
			}
			continue
		}
		if b < lower || b > upper {
			needed, seen, lower, upper = 0, 0, 0x80, 0xBF
			i-- // it is looked at again
			out.WriteRune('\uFFFD')
			continue
		}
		lower, upper = 0x80, 0xBF
		point = point<<6 | rune(b&0x3F)
		if seen++; seen == needed {
			out.WriteRune(point)
			needed, seen = 0, 0
		}
	}
	if needed != 0 {
		out.WriteRune('\uFFFD')
	}
	return out.String()
}

func FuzzReader(f *testing.F) {
	for _, stream := range []string{
		"",
		"data: YHOO\ndata: +2\ndata: 10\n\n",
		": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
		"\uFEFFdata\n\ndata\ndata\n\ndata:",
		"retry: 3000\nid: 1f-29\n\nid: 1f-2a\nevent: gap\ndata: {}\n\n:\n",
		"data: a\ndata: b\r\ndata: c\r\r\ndata: d\n\r\ndata: e\r\n\rdata: f\n\r",
		"id: 1\x00\nid: é\nevent: \xe2\x82\ndata: \xf0\x9f\xff\xed\xa0\x80\n\n",
		"retry: 99999999999999999999\nretry: 1x\nretry\ndata:  \n\n",
		"\xEF\xBB\r\uFEFFdata: a\r\r",
		"event: a\x00b\ndata: x\n\nevent: t\n\ndata: y\n\n",
	} {
		f.Add([]byte(stream), uint16(0))
		f.Add([]byte(stream), uint16(8))
	}
	f.Fuzz(func(t *testing.T, stream []byte, maxEvent uint16) {
		limit := int(maxEvent)
		if limit == 0 {
			limit = 1 << 20
		}
		whole := readAll(bytes.NewReader(stream), int(maxEvent))
		for _, feed := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
			require.Equal(t, whole, readAll(feed(bytes.NewReader(stream)), int(maxEvent)))
		}

		want := reference(string(stream))
		if whole.Err == "EOF" {
			require.Equal(t, want, whole)
		} else {
			require.Contains(t, whole.Err, sse.ErrTooLarge.Error())
			require.LessOrEqual(t, len(whole.Events), len(want.Events))
			for i, e := range whole.Events {
				require.Equal(t, want.Events[i], e, "up to the limit it is the same")
			}
			require.Greater(t, len(stream), limit/3, "nothing was beyond the limit")
		}

		// What was read can be written, and is then read as the same.
		for _, e := range whole.Events {
			require.LessOrEqual(t, len(e.Data), limit)
			require.LessOrEqual(t, len(e.ID), 3*(limit+6))
			require.LessOrEqual(t, len(e.Type), 3*(limit+6))
			wire, err := e.AppendText(nil)
			if strings.Contains(e.Type, "\x00") {
				require.ErrorIs(t, err, sse.ErrInvalidEvent)
				continue
			}
			require.NoError(t, err)
			again, err := sse.NewReader(iotest.OneByteReader(bytes.NewReader(wire))).Read()
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
	})
}
