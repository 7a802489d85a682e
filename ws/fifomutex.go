package ws

import (
	"container/list"
	"context"
	"sync"
)

// fifoMutex is a mutex that is granted in the order in which it was asked for, and
// that can be waited for no longer than a context lasts. The zero fifoMutex is
// unlocked. It takes a quarter of the memory of a channel used as a mutex.
type fifoMutex struct {
	mu      sync.Mutex
	locked  bool
	waiters *list.List // of chan struct{}, each closed when its waiter gets the lock; nil before the first
}

// lockContext waits for the lock until ctx ends, and then returns the cause of that.
func (m *fifoMutex) lockContext(ctx context.Context) error {
	m.mu.Lock()
	if !m.locked {
		m.locked = true
		m.mu.Unlock()
		return nil
	}
	if m.waiters == nil {
		m.waiters = list.New()
	}
	granted := make(chan struct{})
	element := m.waiters.PushBack(granted)
	m.mu.Unlock()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-granted: // just before ctx ended
		return nil
	default:
		m.waiters.Remove(element)
		return context.Cause(ctx)
	}
}

// lock waits for the lock as long as it takes.
func (m *fifoMutex) lock() { _ = m.lockContext(context.Background()) }

// tryLock locks the mutex if it is unlocked, and reports whether it did.
func (m *fifoMutex) tryLock() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return false
	}
	m.locked = true
	return true
}

// unlock passes the lock to the goroutine that has waited longest.
func (m *fifoMutex) unlock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiters == nil || m.waiters.Len() == 0 {
		m.locked = false
		return
	}
	close(m.waiters.Remove(m.waiters.Front()).(chan struct{}))
}
