package watch_test

import (
	"testing"

	"github.com/fanfare-go/fanfare/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
