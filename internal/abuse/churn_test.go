package abuse_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/ws"
)

// TestConnectsAndDisconnects has clients that come and are gone, most without a word, and
// looks at what is left of them.
func TestConnectsAndDisconnects(t *testing.T) {
	v := abused(t, ws.Options{})
	v.withBystanders(t)
	each := 5000
	if testing.Short() {
		each = 500
	}
	var all sync.WaitGroup
	for _, path := range allPaths {
		all.Go(func() {
			for i := range each {
				if !assert.NoError(t, v.comeAndGo(path, i)) {
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d clients have come and gone", each*len(allPaths))
}

// comeAndGo connects and disconnects, in one of several manners.
func (v *victim) comeAndGo(path string, manner int) error {
	c, err := net.Dial("tcp", v.address)
	if err != nil {
		return err
	}
	defer c.Close()
	_, _ = io.WriteString(c, request(path))
	switch manner % 4 {
	case 0: // gone before the answer
	case 1: // without a word
		_, _ = c.Read(make([]byte, 64))
	case 2: // in the middle of what is no frame
		_, _ = c.Read(make([]byte, 64))
		_, _ = io.WriteString(c, "\x81\xff\x00")
	case 3: // with half a request for more
		_, _ = io.WriteString(c, "GET /attached/events?top")
	}
	if manner%8 < 6 {
		_ = c.(*net.TCPConn).SetLinger(0) // a reset, which leaves the port free for the next one; the others say goodbye
	}
	return nil
}
