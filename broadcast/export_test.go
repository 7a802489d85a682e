package broadcast

import (
	"context"
	"weak"
)

// Waiting returns how many subscriptions wait for the engine to place them, apart from
// those that it is being asked about.
func (h *Hub) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.resolver.waiting)
}

// Stage returns the stage of a subscription of this Hub, as text.
func (h *Hub) Stage(s Subscription) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.(*subscription).stage.String()
}

// Deaf reports whether the Hub has ended its streams because its tail yields nothing.
func (h *Hub) Deaf() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.watch.deaf
}

// InMemory returns a function that reports whether a topic that the Hub has now is still in
// memory, whatever leads to it.
func (h *Hub) InMemory(topic string) func() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := weak.Make(h.kept.topics[topic])
	return func() bool { return t.Value() != nil }
}

// Slots returns how many places a topic's table has, holes included.
func (h *Hub) Slots(topic string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.kept.topics[topic].table.Load().slots)
}

// ReadHistory reads the journal once for a subscription that waits for its history, as a goroutine
// of Run does, and calls between after the subscription has been claimed.
func (h *Hub) ReadHistory(ctx context.Context, s Subscription, between func()) error {
	sub := s.(*subscription)
	h.mu.Lock()
	delete(h.historian.waiting, sub)
	readers := []*reader{h.newReader(sub, &read{cancel: func() {}})}
	h.mu.Unlock()
	between()
	err := h.readHistory(ctx, readers)
	h.giveBack(readers)
	return err
}
