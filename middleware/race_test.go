//go:build race

package middleware_test

// unusedTickets is how many tickets TestUnusedTicketsTakeNoMemory issues. With the race detector
// each takes some fifty times as long.
const unusedTickets = 5_000
