package abuse_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/ws"
)

// Nothing is left of thousands of clients that connect and disconnect at once, in every
// manner.
func TestNothingIsLeftOfClientsThatDisconnect(t *testing.T) {
	v := abused(t, ws.Options{})
	v.withBystanders(t)
	each := 500
	if longtest.Enabled() {
		each = 5000
	}
	var all sync.WaitGroup
	for _, path := range allPaths {
		all.Go(func() {
			for i := range each {
				if !assert.NoError(t, v.connectAndLeave(path, i)) {
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d clients have connected and disconnected", each*len(allPaths))
}

// connectAndLeave connects and disconnects, in one of several manners.
func (v *victim) connectAndLeave(path string, manner int) error {
	c, err := net.Dial("tcp", v.address)
	if err != nil {
		return err
	}
	defer c.Close()
	_, _ = io.WriteString(c, request(path))
	switch manner % 4 {
	case 0: // before the response
	case 1: // after the beginning of the response
		_, _ = c.Read(make([]byte, 64))
	case 2: // in the middle of an invalid frame
		_, _ = c.Read(make([]byte, 64))
		_, _ = io.WriteString(c, "\x81\xff\x00")
	case 3: // in the middle of a second request
		_, _ = io.WriteString(c, "GET /attached/events?top")
	}
	if manner%8 < 6 {
		_ = c.(*net.TCPConn).SetLinger(0) // a reset, which frees the port for the next client; the others close in order
	}
	return nil
}
