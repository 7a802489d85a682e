package redisjournal

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Bounds asks Redis for the oldest entry that is kept and the newest there ever was.
func (j *Journal) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if err := j.check(ctx); err != nil {
		return broadcast.ID{}, broadcast.ID{}, err
	}
	v, err := j.look(ctx, j.Client, broadcast.ID{}, 0)
	if err != nil {
		return broadcast.ID{}, broadcast.ID{}, err
	}
	return broadcast.MakeID(v.floor.Epoch(), v.floor.Seq()+1), v.newest, nil
}

// view is what a stream looked like at one moment.
type view struct {
	floor   broadcast.ID // just before the oldest entry that is kept; newest, if none is
	newest  broadcast.ID
	entries []broadcast.Message
}

// look returns a view with up to count entries behind after.
func (j *Journal) look(ctx context.Context, client redis.UniversalClient, after broadcast.ID, count int) (v view, err error) {
	reply, err := j.run(ctx, client, lookScript, append(j.opening(), entryID(after), count))
	if err != nil {
		return view{}, err
	}
	epoch, err := j.opened(reply)
	if err != nil {
		return view{}, err
	}
	if v.newest, err = j.id(epoch, reply[3]); err != nil {
		return view{}, err
	}
	v.floor = v.newest
	if reply[2] != "" {
		oldest, err := j.id(epoch, reply[2])
		if err != nil {
			return view{}, err
		}
		v.floor = before(oldest)
	}
	entries, _ := reply[4].([]any) // nil where count is 0
	for _, e := range entries {
		entry, _ := e.([]any)
		if len(entry) != 2 {
			return view{}, j.explain(fmt.Errorf("an entry reads %q", e))
		}
		id, err := j.id(epoch, entry[0])
		if err != nil {
			return view{}, err
		}
		fields, _ := entry[1].([]any)
		v.entries = append(v.entries, message(id, fields))
	}
	return v, nil
}

// message returns the message in an entry; of an entry that is none, the ID.
func message(id broadcast.ID, fields []any) broadcast.Message {
	m := broadcast.Message{ID: id}
	for i := 0; i+1 < len(fields); i += 2 {
		value, _ := fields[i+1].(string)
		switch fields[i] {
		case "topic":
			m.Topic = value
		case "type":
			m.Type = value
		case "from":
			m.From = value
		case "data":
			m.Data = []byte(value)
		case "binary":
			m.Binary = value == "1"
		}
	}
	if m.Topic == "" {
		return broadcast.Message{ID: id}
	}
	return m
}
