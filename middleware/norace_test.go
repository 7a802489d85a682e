//go:build !race

package middleware_test

const unusedTickets = 100_000
