package outbox

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"edgepost/appliance/message"
)

// A settlement record is a base sequence number and groups; a group is the subscription, a head
// byte, what the head says is there, and runs of consecutive sequence numbers. Settlements that
// share subscription, outcome, attempts and reason share a group, so a burst of acks costs a few
// bytes however long it is.
//
//	head: bits 0-3 state, bit 4 attempts follow (else 1), bit 5 reason follows, bit 6 bytes follow,
//	      bit 7 one single number instead of a list of runs
const (
	headState    = 0x0f
	headAttempts = 0x10
	headReason   = 0x20
	headBytes    = 0x40
	headSingle   = 0x80
)

// maxReason bounds a reason on disk, in bytes.
const maxReason = 200

// encodeSettlements encodes all of list into one record. It sorts list.
func encodeSettlements(list []Settlement) []byte {
	slices.SortFunc(list, func(a, z Settlement) int {
		return cmp.Or(cmp.Compare(a.Sub, z.Sub), cmp.Compare(a.State, z.State), cmp.Compare(a.Attempts, z.Attempts),
			cmp.Compare(a.Bytes, z.Bytes), strings.Compare(a.Reason, z.Reason), cmp.Compare(a.Seq, z.Seq))
	})
	base := list[0].Seq
	for _, s := range list {
		base = min(base, s.Seq)
	}
	b := []byte{byte(KindSettlement)}
	b = binary.AppendUvarint(b, base)
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && sameGroup(&list[i], &list[j]) {
			j++
		}
		b = appendGroup(b, list[i:j], base)
		i = j
	}
	return b
}

func sameGroup(a, b *Settlement) bool {
	return a.Sub == b.Sub && a.State == b.State && a.Attempts == b.Attempts && a.Reason == b.Reason && a.Bytes == b.Bytes
}

func appendGroup(b []byte, g []Settlement, base uint64) []byte {
	s := g[0]
	head := byte(s.State) & headState
	if s.Attempts != 1 {
		head |= headAttempts
	}
	if s.Reason != "" {
		head |= headReason
	}
	if s.Bytes != 0 {
		head |= headBytes
	}
	if len(g) == 1 {
		head |= headSingle
	}
	b = binary.AppendUvarint(b, s.Sub)
	b = append(b, head)
	if head&headAttempts != 0 {
		b = binary.AppendUvarint(b, uint64(max(s.Attempts, 0)))
	}
	if head&headReason != 0 {
		b = appendString(b, s.Reason[:min(len(s.Reason), maxReason)])
	}
	if head&headBytes != 0 {
		b = binary.AppendUvarint(b, uint64(s.Bytes))
	}
	if head&headSingle != 0 {
		return binary.AppendUvarint(b, s.Seq-base)
	}
	return appendRuns(b, g, base)
}

// appendRuns writes the number of runs, then for each the gap since the end of the one before and
// its length.
func appendRuns(b []byte, g []Settlement, base uint64) []byte {
	var runs [][2]uint64
	for _, s := range g {
		if n := len(runs); n > 0 && runs[n-1][0]+runs[n-1][1] == s.Seq {
			runs[n-1][1]++
		} else if n == 0 || s.Seq >= runs[n-1][0]+runs[n-1][1] {
			runs = append(runs, [2]uint64{s.Seq, 1})
		}
	}
	b = binary.AppendUvarint(b, uint64(len(runs)))
	for _, r := range runs {
		b = binary.AppendUvarint(b, r[0]-base)
		b = binary.AppendUvarint(b, r[1])
		base = r[0] + r[1]
	}
	return b
}

// maxRun bounds what a run can claim: no record holds more than settleBatch.
const maxRun = 16 * settleBatch

// decodeSettlements is the inverse of appendSettlements, without the leading kind.
func decodeSettlements(data []byte) ([]Settlement, error) {
	r := reader{b: data}
	base := r.uvarint()
	var out []Settlement
	for len(r.b) > 0 && r.err == nil {
		s := Settlement{Sub: r.uvarint(), Attempts: 1}
		head := r.byte()
		s.State = message.State(head & headState)
		if head&headAttempts != 0 {
			s.Attempts = int(r.uvarint() & 0xffff)
		}
		if head&headReason != 0 {
			s.Reason = r.string()
		}
		if head&headBytes != 0 {
			s.Bytes = int64(r.uvarint() & (1<<40 - 1))
		}
		if head&headSingle != 0 {
			s.Seq = base + r.uvarint()
			if r.err == nil {
				out = append(out, s)
			}
			continue
		}
		next := base
		for n := r.uvarint(); n > 0 && r.err == nil; n-- {
			next += r.uvarint()
			count := r.uvarint()
			if count > maxRun || len(out)+int(count) > maxRun {
				return nil, fmt.Errorf("decode settlements: a run of %d is too long", count)
			}
			for ; count > 0; count-- {
				s.Seq = next
				out = append(out, s)
				next++
			}
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("decode settlements: %w", r.err)
	}
	return out, nil
}

func describeSettlements(list []Settlement) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d settlements:", len(list))
	for i, s := range list {
		if i == 8 {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, " %d/%s by %d", s.Seq, s.State, s.Sub)
		if s.Reason != "" {
			fmt.Fprintf(&b, " (%s)", s.Reason)
		}
	}
	return b.String()
}
