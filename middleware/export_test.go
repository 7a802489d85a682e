package middleware

// Open returns how many requests and keys are counted.
func (l *Limit) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total + len(l.keys)
}

// Known returns how many revoked keys are remembered, and how many have requests.
func (s *Sessions) Known() (revoked, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.revoked.entries), len(s.open)
}

// Known returns how many redeemed tickets are remembered.
func (t *Tickets) Known() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.redeemed.entries)
}
