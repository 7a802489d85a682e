package ws_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

func BenchmarkFrame(b *testing.B) {
	for _, size := range []int{16, 128, 4 << 10, 64 << 10} {
		payload := make([]byte, size)
		for name, masked := range map[string]bool{"server": false, "client": true} {
			b.Run(name+"/"+strconv.Itoa(size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				frame := make([]byte, 0, size+14)
				for b.Loop() {
					frame = ws.AppendFrame(frame[:0], 2, payload, masked)
				}
			})
		}
	}
}

// Appending a frame allocates nothing but its bytes.
func TestFrameAllocs(t *testing.T) {
	payload, frame := make([]byte, 1000), make([]byte, 0, 1014)
	for _, masked := range []bool{false, true} {
		require.Zero(t, testing.AllocsPerRun(100, func() { frame = ws.AppendFrame(frame[:0], 2, payload, masked) }))
	}
}
