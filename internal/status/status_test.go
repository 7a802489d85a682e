package status_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/internal/status"
)

func TestHTTPStatus(t *testing.T) {
	for _, test := range []struct {
		code             int
		refuses, mayPass bool
	}{
		{200, false, false},
		{204, true, false},
		{302, false, false},
		{399, false, false},
		{400, true, false},
		{403, true, false},
		{408, true, true},
		{425, true, true},
		{429, true, true},
		{500, true, true},
		{599, true, true},
		{600, false, true},
	} {
		assert.Equal(t, test.refuses, status.Refuses(test.code), test.code)
		assert.Equal(t, test.mayPass, status.MayPass(test.code), test.code)
	}
}

func TestSendable(t *testing.T) {
	for code, sendable := range map[int]bool{
		0: false, 999: false, 1000: true, 1003: true, 1004: false, 1005: false, 1006: false, 1007: true,
		1014: true, 1015: false, 2999: false, 3000: true, 4999: true, 5000: false,
	} {
		assert.Equal(t, sendable, status.Sendable(code), code)
	}
}
