package filejournal

// outline says what is the newest in a part of the log: for each record, whether state needs it.
type outline struct {
	values map[string]uint64 // the newest message of each Key, removals too, by place
	topics map[string]*topicOutline
	lostTo uint64 // up to here anything may be missing
	all    uint64 // up to here events of any topic may be missing
}

// topicOutline has sequences of a topic's events; 0 if there are none.
type topicOutline struct {
	first, end uint64 // the newest with First, and the newest with End since then
	lost       uint64 // the newest other event since First, which state does not need
}

// maxLost is how many topics are remembered that lack events. Beyond it, any may.
const maxLost = 16_384

func newOutline() *outline {
	return &outline{values: make(map[string]uint64), topics: make(map[string]*topicOutline)}
}

// placeOf names a Key. Neither a topic nor a Key has a NUL.
func placeOf(r *record) string { return r.msg.Topic + "\x00" + r.msg.Key }

// note notes the record that follows.
func (o *outline) note(r *record) {
	m := &r.msg
	switch {
	case r.lost && m.Topic == "":
		o.all = r.seq
		return
	case m.Topic == "":
		return
	case m.Key != "":
		o.values[placeOf(r)] = r.seq
		return
	}
	t := o.topics[m.Topic]
	if t == nil {
		t = new(topicOutline)
		o.topics[m.Topic] = t
	}
	switch {
	case m.First:
		*t = topicOutline{first: r.seq}
	case m.End && !r.lost:
		t.lost, t.end = max(t.lost, t.end), r.seq
	default:
		t.lost = r.seq
	}
}

// miss notes that anything up to a sequence may be missing.
func (o *outline) miss(seq uint64) {
	*o = *newOutline()
	o.lostTo = seq
}

// lost returns how many topics lack events, and the last sequence of these.
func (o *outline) lost() (n int, last uint64) {
	if last = o.all; last > 0 {
		n++
	}
	for _, t := range o.topics {
		if t.lost > 0 {
			n++
			last = max(last, t.lost)
		}
	}
	return n, last
}

// fold lets one sequence stand for all topics that lack events.
func (o *outline) fold() {
	_, o.all = o.lost()
	for _, t := range o.topics {
		t.lost = 0
	}
}

// needs reports whether state needs a record of the part.
func (o *outline) needs(r *record) bool {
	if r.msg.Key != "" {
		return o.values[placeOf(r)] == r.seq
	}
	t := o.topics[r.msg.Topic]
	return t != nil && (t.first == r.seq || t.end == r.seq)
}

// loses reports whether a record is the last event that its topic lacks, and says of which topic
// that is to be noted.
func (o *outline) loses(r *record) (topic string, ok bool) {
	if o.all == r.seq {
		return "", true
	}
	t := o.topics[r.msg.Topic]
	return r.msg.Topic, r.msg.Key == "" && t != nil && t.lost == r.seq
}
