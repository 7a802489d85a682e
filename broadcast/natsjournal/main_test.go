package natsjournal_test

import (
	"flag"
	"os"
	"testing"

	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(engineDir); dir != "" { // a benchmark has started this process
		serve(dir)
		return
	}
	// Most tests wait for the engine, so that more of them run at once than there are CPUs.
	parallel := "12"
	if longtest.Enabled() { // which adds clusters, whose elections need the CPUs
		parallel = "4"
	}
	if err := flag.Set("test.parallel", parallel); err != nil { // -parallel on the command line replaces it
		panic(err)
	}
	leak.Main(m)
}
