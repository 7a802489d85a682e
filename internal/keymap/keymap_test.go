package keymap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/keymap"
)

// Values are set, replaced and removed; a beginning forgets those of its topics; all else leaves
// them.
func TestApply(t *testing.T) {
	type values = map[string]map[string]string
	v := values{}
	for _, step := range []struct {
		envelope string
		want     values
	}{
		{`{"topic":"a","key":"x","data":"1"}`, values{"a": {"x": "1"}}},
		{`{"id":"2-2","topic":"b","key":"x","data":"AAE=","encoding":"base64"}`, values{"a": {"x": "1"}, "b": {"x": "\x00\x01"}}},
		{`{"id":"2-3","topic":"a","key":"y","data":"2"}`, values{"a": {"x": "1", "y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"id":"2-4","topic":"a","key":"x","removed":true,"data":""}`, values{"a": {"y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"id":"2-5","topic":"a","first":true,"end":true,"data":"event"}`, values{"a": {"y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"ready":"2-5","heartbeat":15}`, values{"a": {"y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"position":"2-5"}`, values{"a": {"y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"renewed":"2-5","expires":60}`, values{"a": {"y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"renewed":"2-5","status":403}`, values{"a": {"y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"gap":"2-5","topics":["a"]}`, values{"a": {"y": "2"}, "b": {"x": "\x00\x01"}}},
		{`{"begin":"1-0","topics":["b","c"]}`, values{"a": {"y": "2"}}},
		{`{"id":"2-6","topic":"a","key":"y","removed":true,"data":""}`, values{}},
		{`{"id":"2-6","topic":"c","key":"y","removed":true,"data":""}`, values{}},
		{`{"topic":"a","key":"x","data":""}`, values{"a": {"x": ""}}},
		{`{"begin":"1-0","partial":["a"]}`, values{}},
		{`{"end":"2-7"}`, values{}},
	} {
		require.NoError(t, keymap.Apply(v, []byte(step.envelope)))
		require.Equal(t, step.want, v, step.envelope)
	}
	for _, none := range []string{``, `[]`, `{}`, `{"key":"x"}`, `{"topic":"a","key":"x","data":"?","encoding":"base64"}`} {
		require.Error(t, keymap.Apply(v, []byte(none)), none)
	}
}
