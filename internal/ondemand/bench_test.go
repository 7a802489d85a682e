package ondemand_test

import (
	"testing"

	"github.com/fanfare-go/fanfare/internal/ondemand"
)

// nobody is a worker that leaves the items to the benchmark.
type nobody struct{}

func (nobody) Work() {}

// BenchmarkQueue is one item through a queue that all processors share: try it with -cpu 1,2.
func BenchmarkQueue(b *testing.B) {
	var queue ondemand.Queue[*int]
	item := new(int)
	b.RunParallel(func(each *testing.PB) {
		for each.Next() {
			queue.Put(item, 0, nobody{})
			queue.Take()
		}
	})
}
