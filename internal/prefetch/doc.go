// Package prefetch asks the processor for memory that is needed soon, and does not wait for it.
//
// What a stream needs for a delivery has left the processor's cache by the time the next message
// comes, since the kernel's part of a write passes through it. To wait for one cache line costs 50 to
// 130 ns, and a delivery needs a dozen, one after the other: nearly half of its time outside
// of the kernel. A worker that knows which stream is next has them fetched during the write before.
package prefetch
