package ws

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
)

// fifoMutex is a mutex that is granted in the order in which it was asked for, and
// that can be waited for no longer than a context lasts. The zero fifoMutex is
// unlocked. It takes a quarter of the memory of a channel used as a mutex, and while nobody
// waits for it one atomic operation to be locked, and one to be unlocked.
type fifoMutex struct {
	word atomic.Uint32

	mu      sync.Mutex // guards waiters, and is held to change word from or to contended
	waiters *list.List // of chan struct{}, each closed when its waiter gets the lock; nil before the first
}

// What word may be.
const (
	unlocked  uint32 = iota
	locked           // nobody waits
	contended        // it is locked, and perhaps somebody waits
)

// lockContext waits for the lock until ctx ends, and then returns the cause of that.
func (m *fifoMutex) lockContext(ctx context.Context) error {
	if m.tryLock() {
		return nil
	}
	m.mu.Lock()
	// From here on unlock needs mu. If it has come before, the lock is free, and nobody waits.
	if m.word.Swap(contended) == unlocked {
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
func (m *fifoMutex) tryLock() bool { return m.word.CompareAndSwap(unlocked, locked) }

// unlock passes the lock to the goroutine that has waited longest.
func (m *fifoMutex) unlock() {
	if m.word.CompareAndSwap(locked, unlocked) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiters == nil || m.waiters.Len() == 0 {
		m.word.Store(unlocked)
		return
	}
	close(m.waiters.Remove(m.waiters.Front()).(chan struct{}))
}
