// Package abuse_test attacks a server with hostile clients. The server must stay up, its
// other clients must not notice, and nothing may be left of the attackers.
package abuse_test

import (
	"testing"

	"github.com/fanfare-go/fanfare/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
