package delivery

import (
	"encoding/binary"
	"fmt"
	"math"
)

const version = 1

// AppendBinary appends the State's binary form (the package comment has its table): what is owed,
// the failed attempts, and in each lane how far it may have been sent. What is in flight is owed
// when it is read again, and what waits for a retry no longer waits. The policy is not in it.
func (s *State) AppendBinary(dst []byte) []byte {
	dst = append(dst, version)
	var none lane
	sent, failed := s.history()
	for i, l := range [...]*lane{&s.normal, s.urgent} {
		if l == nil {
			l = &none
		}
		dst = l.AppendBinary(dst)
		dst = binary.AppendUvarint(dst, max(l.maybe, sent[i]))
	}
	dst = binary.AppendUvarint(dst, uint64(failed))
	if failed == 0 {
		return dst
	}
	prev := uint64(0)
	for _, t := range s.live.tracks.all() {
		if t.fails > 0 {
			dst = binary.AppendUvarint(dst, t.seq-prev)
			dst = binary.AppendUvarint(dst, uint64(t.fails))
			prev = t.seq
		}
	}
	return dst
}

// history returns the highest tracked number that was sent, by lane, and how many have failed.
func (s *State) history() (sent [2]uint64, failed int) {
	if s.live == nil {
		return sent, 0
	}
	for _, t := range s.live.tracks.all() {
		if t.sends > 0 {
			sent[index(t.urgent)] = t.seq
		}
		if t.fails > 0 {
			failed++
		}
	}
	return sent, failed
}

// Decode reads what [State.AppendBinary] wrote at the beginning of b and returns the bytes behind
// it. It takes no more memory than a small multiple of what it reads. No link is open.
func Decode(p Policy, b []byte) (s *State, rest []byte, err error) {
	s = New(p)
	if rest, err = s.decode(b); err != nil {
		return nil, nil, fmt.Errorf("decode subscription state: %w", err)
	}
	return s, rest, nil
}

func (s *State) decode(b []byte) (rest []byte, err error) {
	if len(b) == 0 {
		return nil, errShort
	}
	if b[0] != version {
		return nil, fmt.Errorf("its version is %d, this program reads %d", b[0], version)
	}
	if b, err = s.normal.read(b[1:]); err != nil {
		return nil, fmt.Errorf("normal lane: %w", err)
	}
	var urgent lane
	if b, err = urgent.read(b); err != nil {
		return nil, fmt.Errorf("urgent lane: %w", err)
	}
	if urgent.Len() > 0 || urgent.maybe > 0 {
		s.urgent = &urgent
	}
	apart := true
	urgent.Each(1, MaxSeq, func(first, last uint64) bool {
		apart = s.normal.CountIn(first, last) == 0
		return apart
	})
	if !apart {
		return nil, errBroken
	}
	if b, err = s.decodeFails(b); err != nil {
		return nil, fmt.Errorf("failures: %w", err)
	}
	return b, nil
}

func (l *lane) read(b []byte) (rest []byte, err error) {
	if b, err = l.Decode(b); err != nil {
		return nil, err
	}
	if l.maybe, b, err = readUvarint(b); err != nil {
		return nil, err
	}
	if l.maybe > MaxSeq {
		return nil, errBroken
	}
	return b, nil
}

func (s *State) decodeFails(b []byte) (rest []byte, err error) {
	n, b, err := readUvarint(b)
	if err != nil {
		return nil, err
	}
	for seq := uint64(0); n > 0; n-- {
		var step, fails uint64
		if step, b, err = readUvarint(b); err != nil {
			return nil, err
		}
		if fails, b, err = readUvarint(b); err != nil {
			return nil, err
		}
		if step == 0 || step > MaxSeq-seq || fails == 0 || fails > math.MaxUint16 {
			return nil, errBroken
		}
		seq += step
		lane, urgent := s.find(seq)
		if lane == nil {
			return nil, errBroken
		}
		t := s.need().tracks.put(seq)
		t.urgent, t.fails, t.sends = urgent, uint16(fails), uint16(fails)
	}
	return b, nil
}
