package ondemand_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/ondemand"
)

// collector appends what it takes, in order.
type collector struct {
	queue ondemand.Queue[int]
	mu    sync.Mutex
	got   []int
	block chan struct{} // not nil: the first item leaves the queue and waits for it
}

func (c *collector) Work() {
	for {
		item, ok := c.queue.Take()
		if !ok {
			return
		}
		if c.block != nil && item == 0 {
			c.queue.Leave(1, c)
			<-c.block
			c.add(item)
			return
		}
		c.add(item)
	}
}

func (c *collector) add(item int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, item)
}

// One goroutine takes the items in their order, and the bubble fails if it stays.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c collector
		want := make([]int, 10_000)
		for i := range want {
			want[i] = i
			c.queue.Put(i, 1, &c)
		}
		synctest.Wait()
		require.Equal(t, want, c.got)
		require.Zero(t, c.queue.Len())
		c.queue.Put(1, 1, &c)
		synctest.Wait()
		require.Len(t, c.got, len(want)+1, "a queue that was empty starts a goroutine again")
	})
}

// An item whose work blocks does not keep the others waiting.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collector{block: make(chan struct{})}
		for i := range 5 {
			c.queue.Put(i, 1, &c)
		}
		synctest.Wait()
		require.Equal(t, []int{1, 2, 3, 4}, c.got)
		close(c.block)
		synctest.Wait()
		require.Equal(t, []int{1, 2, 3, 4, 0}, c.got)
	})
}

// counter counts how many goroutines run at once.
type counter struct {
	queue     ondemand.Queue[int]
	mu        sync.Mutex
	now, most int
	step      chan struct{}
}

func (c *counter) Work() {
	c.mu.Lock()
	c.now++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	for _, ok := c.queue.Take(); ok; _, ok = c.queue.Take() {
		<-c.step
	}
	c.mu.Lock()
	c.now--
	c.mu.Unlock()
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := counter{step: make(chan struct{})}
		for i := range 100 {
			c.queue.Put(i, 3, &c)
		}
		synctest.Wait()
		require.Equal(t, 3, c.now)
		close(c.step)
		synctest.Wait()
		require.Equal(t, 3, c.most)
		require.Zero(t, c.now, "no goroutine stays once the queue is empty")
	})
}

func TestPutAndTakeDoNotAllocate(t *testing.T) {
	var c collector
	c.queue.Put(1, 0, nil)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		c.queue.Put(1, 0, nil)
		c.queue.Take()
	}))
}

// What is next can be seen while it waits, and stays in the queue.
func TestTakeAndPeek(t *testing.T) {
	var c collector
	for i := range 4 {
		c.queue.Put(i+1, 0, &c)
	}
	for _, want := range [][3]int{{1, 2, 3}, {2, 3, 4}, {3, 4, 0}, {4, 0, 0}} {
		item, next, afterNext, ok := c.queue.TakeAndPeek()
		require.True(t, ok)
		require.Equal(t, want, [3]int{item, next, afterNext})
	}
	_, next, afterNext, ok := c.queue.TakeAndPeek()
	require.False(t, ok)
	require.Zero(t, next)
	require.Zero(t, afterNext)
}
