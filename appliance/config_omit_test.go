//go:build omit_acme

package appliance

import (
	"strings"
	"testing"
)

// A connector that is not compiled in is named with its line.
func TestACMEIsNotCompiledIn(t *testing.T) {
	_, err := parseConfig("f", "wan = true\n[tls.acme]\nnames = [\"gw.example\"]\n")
	if err == nil || !strings.Contains(err.Error(), "f:2: tls.acme: ACME is not compiled into this program") {
		t.Error(err)
	}
}
