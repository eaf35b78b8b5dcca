// Package cipher knows the ciphers and hashes that people still ask for and that are not offered, so that
// every place where one can be named refuses them by name and with the reason.
package cipher

import (
	"fmt"
	"slices"
	"strings"
)

// withdrawn are those, and why they are refused.
var withdrawn = [...]struct {
	name   string
	also   []string
	reason string
}{
	{"DES", []string{"des", "des-cbc", "des-ecb", "des56"}, "56-bit key, withdrawn"},
	{"3DES", []string{"3des", "tdes", "tripledes", "triple-des", "des3", "3des-cbc", "des-ede3", "des-ede3-cbc"}, "64-bit blocks and at most 112 bits of strength, withdrawn"},
	{"RC4", []string{"rc4", "arc4", "arcfour"}, "its key stream is biased, prohibited"},
	{"MD5", []string{"md5", "hmac-md5"}, "collisions are made in seconds, withdrawn"},
}

// Withdrawn returns the reason why a well-known cipher or hash is not offered, nil if name is none of
// those. instead says what is.
func Withdrawn(name, instead string) error {
	for _, w := range withdrawn {
		if slices.Contains(w.also, strings.ToLower(strings.ReplaceAll(name, "_", "-"))) {
			return fmt.Errorf("%s is not offered: %s; use %s", w.name, w.reason, instead)
		}
	}
	return nil
}
