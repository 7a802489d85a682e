package ws

// maxPongs is how many pongs wait for a write that is under way. Of more pings the newest
// are answered (RFC 6455 section 5.5.3), so that pongs for a peer that sends pings and does
// not read take at most 8 KiB.
const maxPongs = 64

// pongs are the pongs that wait to be written.
type pongs struct {
	frames  []byte // whole frames, the oldest first
	waiting int    // how many
}

// add appends the answer to a ping. If there are too many, it drops the oldest.
func (p *pongs) add(ping []byte, masked bool) {
	if p.waiting == maxPongs {
		size := 2 + int(p.frames[1]&^maskBit) // a control frame has at most 125 bytes
		if masked {
			size += 4
		}
		p.frames = p.frames[:copy(p.frames, p.frames[size:])]
		p.waiting--
	}
	p.frames = appendFrame(p.frames, opPong, ping, masked)
	p.waiting++
}

// take removes all, and returns them to be written at once.
func (p *pongs) take() []byte {
	frames := p.frames
	*p = pongs{}
	return frames
}
