package ws

import "slices"

// maxPongs is how many pongs wait for a write that is under way. Of more pings the newest
// are answered (RFC 6455 section 5.5.3), so that pongs for a peer that sends pings and does
// not read take at most 8 KiB.
const maxPongs = 64

// pongs are the pongs that wait to be written. The zero pongs are none.
type pongs struct {
	frames [][]byte // at most maxPongs
	oldest int      // which of them is the oldest; 0 until there are maxPongs
}

func (p *pongs) wait() bool { return len(p.frames) > 0 }

// add adds the answer to a ping, if there are too many in place of the oldest.
func (p *pongs) add(ping []byte, masked bool) {
	if len(p.frames) < maxPongs {
		p.frames = append(p.frames, appendFrame(nil, opPong, ping, masked))
		return
	}
	p.frames[p.oldest] = appendFrame(p.frames[p.oldest][:0], opPong, ping, masked)
	p.oldest = (p.oldest + 1) % maxPongs
}

// take removes all, and returns them, the oldest first, to be written at once.
func (p *pongs) take() []byte {
	frames := slices.Concat(slices.Concat(p.frames[p.oldest:]...), slices.Concat(p.frames[:p.oldest]...))
	*p = pongs{}
	return frames
}
