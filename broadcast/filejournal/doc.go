// Package filejournal is a [broadcast.Journal] in files: a durable log in the process, for an
// application that runs on one server. A restart, a crash or a power cut is then no gap for
// its clients: they resume exactly.
//
//	journal := &filejournal.Journal{Dir: "/var/lib/app/push"}
//	hub := &broadcast.Hub{Journal: journal}
//	go hub.Run(context.Background())
//	...
//	hub.Close() // after the streams have ended, as middleware.Drain lets them
//	journal.Close()
//
// # What is on the disk
//
// The log is in segments, files of records with a checksum each. Publish returns when its
// message has been synced to the disk, and no client gets a message before that. Messages that
// are published at the same time are synced together, so that many publishers are not slower
// than one. [Journal.SyncEvery] trades that for speed.
//
// When the log is opened, the end of its last segment is cut off if a crash has left it
// incomplete; that was acknowledged to nobody. If something is missing that was acknowledged,
// because a file was cut or is older than it was, the log has a new epoch, and every client
// gets a gap, and then what follows what it has had of the messages that are still there. So it does if the folder is a copy: the original may have gone on. On Windows a
// copy cannot be told from the original: remove the file "state" from it. Damage in the middle
// of the log is a gap for those who have not read what was there. The rest stays readable.
//
// If the disk is full or fails, Publish returns an error, which wraps
// [broadcast.ErrNotPublished] if the message surely does not come back, and works again as
// soon as the disk does.
//
// # State
//
// The oldest segments are removed because of [Journal.MaxBytes] and [Journal.MaxAge]. Of their
// messages the value of each Key stays, and of each topic the newest event with First and that
// with End: a Hub that starts has them, however old they are. It reports topics as partial that
// have lost other events since. What stays has at most half of MaxBytes; beyond that the oldest
// goes, and topics are partial that may have had something of it. Each segment has a file beside
// it of what state needs of it, which takes as much again if all messages have different Keys.
//
// # Who may use a folder
//
// One process at a time, or rather one Journal. Another one waits for some seconds, and then
// its calls return [ErrInUse]; a Hub that runs tries again until it gets the folder, and its
// streams stay open meanwhile. So a new process may be started while the old one drains: its
// clients get nothing and lose nothing until the old one has closed its Journal or has ended.
//
// # Backup and moving
//
// A copy of the folder that was made while it was in use can be read: it is as if the power had
// failed in that moment. It has another epoch, on Windows once its file "state" is removed. If a
// segment was removed while the folder was copied, the copy may lack it and older state, and has
// a gap there. A snapshot of the file system has none, nor has what [Copy] makes, which moves the
// log to another engine too. To keep the epoch, close the Journal and move the folder within its
// file system.
package filejournal
