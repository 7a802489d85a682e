package watch

// Watched returns how many sockets are watched.
func (w *Watch) Watched() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watched
}
