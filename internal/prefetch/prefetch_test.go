package prefetch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/prefetch"
)

// Nothing is read, so that nothing can go wrong: neither with what is nil, nor at the end of
// the memory that the process has.
func TestNothingIsRead(t *testing.T) {
	prefetch.Struct[int](nil)
	prefetch.Struct(new(byte))
	for _, v := range []any{nil, 0, "text", struct{}{}, new(byte), (*int)(nil), func() {}, [2]uintptr{1, 2}, error(nil)} {
		prefetch.Value(v)
	}
	all := make([]byte, 1<<20)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for i := range 64 {
			prefetch.Struct(&all[len(all)-1-i])
			prefetch.Value(&all[i])
		}
	}))
}

// BenchmarkWalk has objects of a few cache lines each, more than the processor's caches have
// room for, in random order, and some work on each. The next one is fetched meanwhile, or not.
func BenchmarkWalk(b *testing.B) {
	type object struct{ words [32]uint64 }
	objects := make([]*object, 1<<18)
	for i := range objects {
		objects[i] = new(object)
	}
	for i, j := 0, 1; i < len(objects); i++ { // a fixed shuffle
		j = (j*5 + 3) % len(objects)
		objects[i], objects[j] = objects[j], objects[i]
	}
	for _, ahead := range []int{0, 1} {
		b.Run([]string{"not fetched", "fetched ahead"}[ahead], func(b *testing.B) {
			i, sum := 0, uint64(0)
			for b.Loop() {
				i = (i + 1) % len(objects)
				if ahead > 0 {
					prefetch.Struct(objects[(i+1)%len(objects)])
				}
				for word := 0; word < 32; word += 8 {
					for range 20 {
						sum = sum*31 + objects[i].words[word]
					}
				}
				objects[i].words[0] = sum
			}
		})
	}
}
