// Package broadcasttest helps to test what implements or uses package broadcast.
//
// [TestBroadcaster] and [TestJournal] are conformance suites: what passes them
// keeps the promises that handlers, and a Hub, rely on. Each case has a name and
// a rule, which it logs when it fails. They wait for what must come, at most ten
// seconds, and never for something not to come: a slow engine does not fail them.
//
// [Journal] is a journal in memory with faults, for tests of several servers and
// of an engine that fails. [Recorder] notes what is published.
package broadcasttest
