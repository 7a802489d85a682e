// Package abuse_test has clients that do what they can to a server: it stays up, others do
// not notice, and nothing is left of them.
package abuse_test

import (
	"testing"

	"github.com/fanfare-go/fanfare/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
