package natsjournal_test

import (
	"os"
	"testing"

	"github.com/fanfare-go/fanfare/internal/leak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(engineDir); dir != "" { // a benchmark has started this process
		serve(dir)
		return
	}
	leak.Main(m)
}
