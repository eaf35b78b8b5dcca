package wal

import (
	"encoding/binary"
)

// headEntry is the size of the first entry of every generation, one sector. It is fixed, so that the first data frame,
// and with it the salt, is found even when the head is unreadable.
const (
	headEntry     = 512
	headFrameSize = headEntry - 2 // the entry's uvarint takes two bytes
)

// attest is what a head says about an older main generation that carries no seal: how much of it was synced.
// Whatever stands behind length in that file was never acknowledged and is not read.
type attest struct {
	id          uint64
	first, last uint64 // records; 0 if none
	length      int64
	salt        uint64
}

// maxAttests bounds the list in a head: one for each crash or write error whose generation is still kept. A head holds
// as many as fit headEntry, about 16. For older ones the heads of those days speak, while they are kept.
const maxAttests = 32

// headMeta is the payload of a head.
type headMeta struct {
	id        uint64
	pred      uint64 // main generation before this one, 0 if none
	skip      uint64 // numbers skipped by this generation, which is the first of its start if not 0
	snapshots []uint64
	attests   []attest // the predecessor first, then other generations without a seal
}

func (m *headMeta) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, m.id)
	b = binary.AppendUvarint(b, m.pred)
	b = binary.AppendUvarint(b, m.skip)
	b = binary.AppendUvarint(b, uint64(len(m.snapshots)))
	for _, id := range m.snapshots {
		b = binary.AppendUvarint(b, id)
	}
	count := len(b)
	b = append(b, 0) // how many follow: less than 128, one byte
	for i, a := range m.attests[:min(len(m.attests), maxAttests)] {
		more := binary.AppendUvarint(b, a.id)
		more = binary.AppendUvarint(more, a.first)
		more = binary.AppendUvarint(more, a.last)
		more = binary.AppendUvarint(more, uint64(a.length))
		more = binary.LittleEndian.AppendUint64(more, a.salt)
		if len(more) > headFrameSize {
			break
		}
		b, b[count] = more, byte(i+1)
	}
	return b
}

func decodeHead(p []byte) (headMeta, bool) {
	c := cursor{b: p}
	m := headMeta{id: c.uvarint(), pred: c.uvarint(), skip: c.uvarint()}
	n := c.uvarint()
	if n > 2 {
		return m, false
	}
	for range n {
		m.snapshots = append(m.snapshots, c.uvarint())
	}
	n = c.uvarint()
	if n > maxAttests {
		return m, false
	}
	for range n {
		a := attest{id: c.uvarint(), first: c.uvarint(), last: c.uvarint(), length: int64(c.uvarint())}
		if len(c.b) < 8 || a.length < 0 {
			return m, false
		}
		a.salt = binary.LittleEndian.Uint64(c.b)
		c.b = c.b[8:]
		m.attests = append(m.attests, a)
	}
	return m, !c.bad
}

// headFrame returns a head: an entry of exactly headEntry bytes.
func headFrame(h header, m *headMeta) []byte {
	frame := make([]byte, headFrameSize) // what is not used stays zero
	copy(frame[headerSize:], m.encode(make([]byte, headerSize, headEntry))[headerSize:])
	h.typ = typeHead
	h.finish(frame)
	return frame
}

// sealMeta is the payload of a seal: the generation's index, so that a start reads one frame of it instead of all.
type sealMeta struct {
	first, last           uint64
	records               int64
	firstStamp, lastStamp Stamp
	drops                 []uint64 // a cold generation replaces these; Open finishes what a crash interrupted
	frames                []frameRef
}

// sealTrailer ends a seal's payload, and thereby the file: where the seal's entry begins, and this mark.
var sealTrailer = [4]byte{'S', 'E', 'A', 'L'}

func (m *sealMeta) encode(b []byte, offset int64) []byte {
	b = binary.AppendUvarint(b, m.first)
	b = binary.AppendUvarint(b, m.last)
	b = binary.AppendUvarint(b, uint64(m.records))
	b = appendStamp(b, m.firstStamp)
	b = appendStamp(b, m.lastStamp)
	b = binary.AppendUvarint(b, uint64(len(m.drops)))
	for _, id := range m.drops {
		b = binary.AppendUvarint(b, id)
	}
	b = binary.AppendUvarint(b, uint64(len(m.frames)))
	var off, first uint64
	for _, f := range m.frames {
		b = binary.AppendUvarint(b, uint64(f.off)-off)
		b = binary.AppendUvarint(b, f.first-first)
		b = binary.AppendUvarint(b, uint64(f.count))
		off, first = uint64(f.off), f.first
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(offset))
	return append(b, sealTrailer[:]...)
}

func decodeSeal(p []byte, offset int64) (sealMeta, bool) {
	var m sealMeta
	if len(p) < 8 || [4]byte(p[len(p)-4:]) != sealTrailer ||
		int64(binary.LittleEndian.Uint32(p[len(p)-8:])) != offset {
		return m, false
	}
	c := cursor{b: p[:len(p)-8]}
	m.first, m.last, m.records = c.uvarint(), c.uvarint(), int64(c.uvarint())
	m.firstStamp, m.lastStamp = c.stamp(), c.stamp()
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		return m, false
	}
	for range n {
		m.drops = append(m.drops, c.uvarint())
	}
	n = c.uvarint()
	if n > uint64(len(c.b)) {
		return m, false
	}
	m.frames = make([]frameRef, 0, n)
	var off, first uint64
	for range n {
		off += c.uvarint()
		first += c.uvarint()
		count := c.uvarint()
		if off >= uint64(offset) || count > maxPayload {
			return m, false
		}
		m.frames = append(m.frames, frameRef{first: first, off: uint32(off), count: uint32(count)})
	}
	return m, !c.bad && len(c.b) == 0 && m.records >= 0
}
