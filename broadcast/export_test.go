package broadcast

// Waiting returns how many subscriptions wait for the engine to place them, apart
// from those that it is being asked about.
func (h *Hub) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.resolver.waiting)
}
