package broadcast_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// Clients that resume again and again cannot fill the log.
func TestResumersCannotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		first := s.publish("x", "begin")
		_, err := engine.Append(t.Context(), broadcast.Message{Topic: "a\nb", Data: []byte("foreign")})
		require.NoError(t, err)
		for i := range 40 {
			s.publish("x", fmt.Sprint(i))
		}
		synctest.Wait()
		before := len(s.log.with("not valid messages"))
		for range 100 { // in no time at all
			client := s.resume(first, "x")
			synctest.Wait()
			require.Len(t, client.poll(), 40)
			client.sub.Close()
		}
		require.LessOrEqual(t, len(s.log.with("not valid messages"))-before, 2)
	})
}
