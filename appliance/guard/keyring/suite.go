package keyring

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/cpu"

	"edgepost/appliance/guard/cipher"
	"edgepost/wal"
)

// Auto chooses the suite for this machine: AES-256-GCM where the processor has AES instructions and this program
// uses them, else XChaCha20-Poly1305. Go has no AES assembly for 32-bit x86 and ARM nor for MIPS: there
// its AES uses tables, is several times slower than ChaCha20 and tells its key by its timing.
func Auto() wal.Suite {
	fast := false
	switch runtime.GOARCH {
	case "amd64":
		fast = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ
	case "arm64":
		fast = cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	case "s390x":
		fast = cpu.S390X.HasAESGCM
	case "ppc64", "ppc64le":
		fast = true // every POWER8 has them
	}
	if fast {
		return wal.AES256GCM
	}
	return wal.XChaCha20Poly1305
}

// ParseSuite reads a suite's name; "" and "auto" are [Auto]. The error says what is allowed and, of
// ciphers that are known to be broken, why they are not.
func ParseSuite(name string) (wal.Suite, error) {
	switch strings.ToLower(name) {
	case "", "auto":
		return Auto(), nil
	case wal.AES256GCM.String():
		return wal.AES256GCM, nil
	case wal.XChaCha20Poly1305.String():
		return wal.XChaCha20Poly1305, nil
	}
	if err := cipher.Withdrawn(name, "aes-256-gcm or xchacha20-poly1305"); err != nil {
		return wal.Plain, err
	}
	return wal.Plain, fmt.Errorf("%.40q is not a cipher that is offered; auto, aes-256-gcm or xchacha20-poly1305", name)
}
