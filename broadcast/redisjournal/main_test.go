package redisjournal_test

import (
	"flag"
	"testing"

	"github.com/fanfare-go/fanfare/internal/leak"
)

func TestMain(m *testing.M) {
	// The parallel tests wait for Redis, so that more of them run at once than there are CPUs.
	if err := flag.Set("test.parallel", "6"); err != nil { // -parallel on the command line replaces it
		panic(err)
	}
	leak.Main(m)
}
