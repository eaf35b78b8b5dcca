package message

import (
	"strconv"
	"strings"
)

// EpochBits is the size of an epoch: it names one life of one log, so that ids of a cloned or
// erased gateway never meet.
const EpochBits = 40

const epochAlphabet = "abcdefghijkmnpqrstuvwxyz23456789" // 32 signs, none that look alike (l, o, 0, 1)

// Epoch names one life of the log, as eight signs.
type Epoch string

// NewEpoch writes the low 40 bits of n as an epoch.
func NewEpoch(n uint64) Epoch {
	var b [EpochBits / 5]byte
	for i := range b {
		b[len(b)-1-i] = epochAlphabet[n&31]
		n >>= 5
	}
	return Epoch(b[:])
}

// ID names a message for ever: "<epoch>-<seq>". It stays the same over redelivery, restart,
// carrying forward, delay and requeue. The zero ID means "not stored".
type ID struct {
	Epoch Epoch
	Seq   uint64
}

func (id ID) String() string { return string(id.Epoch) + "-" + strconv.FormatUint(id.Seq, 10) }

// IsZero reports whether the message was never stored.
func (id ID) IsZero() bool { return id.Seq == 0 }

// ParseID reads what [ID.String] wrote. The error is a [Problem] with [CodeBadID].
func ParseID(s string) (ID, error) {
	epoch, seq, ok := strings.Cut(s, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || seq[0] == '0' || len(epoch) != EpochBits/5 || strings.Trim(epoch, epochAlphabet) != "" {
		return ID{}, Problemf(CodeBadID, "%.60q is not a message id; one looks like k3f9w2xq-4712", s)
	}
	return ID{Epoch: Epoch(epoch), Seq: n}, nil
}
