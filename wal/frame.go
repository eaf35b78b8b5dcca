package wal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// The frame header. All integers are little endian; doc.go has the table.
const (
	headerSize   = 80
	headerFields = 72 // without the checksums
	version      = 1
	maxPayload   = MaxAppend + MaxAppend/2 // the largest append, the riders of one frame and the length tables
	maxPrefix    = 5                       // of the uvarint that tidwall/wal puts before an entry
	maxFrameLen  = headerSize + maxPayload + maxOverhead
)

// frameType says what a frame is. The numbers are part of the format.
type frameType uint8

const (
	typeHead frameType = 1 // first frame of a generation
	typeData frameType = 2
	typeSeal frameType = 3 // last frame of a complete generation: its index; on a side it is the commit frame
	typeMark frameType = 4 // nothing but a successor: what is before it had been synced
)

const flagStamps = 1 // a cold data frame whose records have their own stamps

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	magic      = [4]byte{0xE5, 'W', 'A', 'L'}
	errFrame   = errors.New("not a valid frame")
)

// header is the fixed part of a frame.
type header struct {
	typ     frameType
	kind    Kind
	flags   uint8
	suite   Suite  // of a data frame; on heads and seals that of the generation, which are not encrypted themselves
	key     uint16 // which key, 0 if the suite is Plain
	count   uint32 // records
	stored  uint32 // payload bytes in the file
	raw     uint32 // payload bytes once decrypted
	offset  uint32 // of the frame's entry in its generation, so that a misplaced copy is no frame
	salt    uint64 // of the generation; it seeds both CRCs
	first   uint64 // number of the first record; the next number to be used if there is none
	last    uint64 // number of the last record, 0 if there is none
	stamp   Stamp
	payload uint32 // CRC-32C of the stored payload
}

// seed is crc32.Update(0, castagnoli, salt), done here because that one's argument escapes: two allocations a frame.
func seed(salt uint64) uint32 {
	crc := ^uint32(0)
	for range 8 {
		crc = castagnoli[byte(crc)^byte(salt)] ^ crc>>8
		salt >>= 8
	}
	return ^crc
}

// fields writes h to b[:headerFields]: all but the checksums.
func (h *header) fields(b []byte) {
	le := binary.LittleEndian
	clear(b[:headerFields])
	copy(b, magic[:])
	b[4] = version
	b[5], b[6], b[7] = byte(h.typ), byte(h.kind), h.flags
	b[8] = byte(h.suite) // b[9] is the compression, 0 = none
	le.PutUint16(b[10:], h.key)
	le.PutUint32(b[12:], h.count)
	le.PutUint32(b[16:], h.stored)
	le.PutUint32(b[20:], h.raw)
	le.PutUint32(b[24:], h.offset)
	le.PutUint64(b[28:], h.salt)
	le.PutUint64(b[36:], h.first)
	le.PutUint64(b[44:], h.last)
	le.PutUint64(b[52:], uint64(h.stamp.Wall))
	le.PutUint64(b[60:], uint64(h.stamp.Age))
	le.PutUint32(b[68:], h.stamp.Boot)
}

// put writes h to b[:headerSize].
func (h *header) put(b []byte) {
	le := binary.LittleEndian
	h.fields(b)
	le.PutUint32(b[72:], h.payload)
	le.PutUint32(b[76:], crc32.Update(seed(h.salt), castagnoli, b[:76]))
}

// parseHeader reads and checks a header. It cannot know whether salt and offset are the expected ones.
func parseHeader(b []byte) (header, bool) {
	le := binary.LittleEndian
	if len(b) < headerSize || [4]byte(b[:4]) != magic || b[4] != version {
		return header{}, false
	}
	h := header{
		typ: frameType(b[5]), kind: Kind(b[6]), flags: b[7], suite: Suite(b[8]), key: le.Uint16(b[10:]),
		count: le.Uint32(b[12:]), stored: le.Uint32(b[16:]), raw: le.Uint32(b[20:]), offset: le.Uint32(b[24:]),
		salt: le.Uint64(b[28:]), first: le.Uint64(b[36:]), last: le.Uint64(b[44:]),
		stamp:   Stamp{Wall: int64(le.Uint64(b[52:])), Age: int64(le.Uint64(b[60:])), Boot: le.Uint32(b[68:])},
		payload: le.Uint32(b[72:]),
	}
	if le.Uint32(b[76:]) != crc32.Update(seed(h.salt), castagnoli, b[:76]) {
		return header{}, false
	}
	return h, h.sane()
}

// sane refuses what this version never writes. A header with a suite or compression that we do not know passes its CRC but
// cannot be opened; it is damage to us, and the version in the lock file keeps older programs away from newer logs.
func (h *header) sane() bool {
	switch {
	case h.typ < typeHead || h.typ > typeMark, h.kind < Main || h.kind > Snapshot:
		return false
	case h.suite > XChaCha20Poly1305 || (h.suite == Plain) != (h.key == 0):
		return false
	case h.raw > maxPayload || h.stored != h.raw+h.grown():
		return false
	}
	return h.numbered() && (h.last == 0 || h.last >= h.first)
}

// numbered reports whether the sequence numbers are those of a frame of its type.
func (h *header) numbered() bool {
	switch {
	case h.typ == typeData && (h.count == 0 || h.first == 0 && h.kind != Snapshot):
		return false
	case h.typ == typeMark && (h.count != 0 || h.stored != 0 || h.first == 0 || h.kind != Main):
		return false
	case h.typ == typeData && h.kind == Main && h.last != h.first+uint64(h.count)-1:
		return false
	}
	return true
}

// grown is by how much encryption made the payload longer. Only data frames are encrypted.
func (h *header) grown() uint32 {
	if h.typ != typeData {
		return 0
	}
	return h.suite.overhead()
}

// entryLen is the length of the frame's entry: tidwall/wal's uvarint and the frame.
func (h *header) entryLen() int64 {
	return entryLen(headerSize + int(h.stored))
}

func entryLen(frame int) int64 {
	var b [binary.MaxVarintLen64]byte
	return int64(binary.PutUvarint(b[:], uint64(frame)) + frame)
}

// checkPayload compares the CRC of the stored payload.
func (h *header) checkPayload(p []byte) bool {
	return len(p) == int(h.stored) && crc32.Update(seed(h.salt), castagnoli, p) == h.payload
}

// finish fills the header of a plain frame whose payload stands at frame[headerSize:].
func (h *header) finish(frame []byte) {
	h.stored = uint32(len(frame) - headerSize)
	h.raw = h.stored
	h.sum(frame)
}

// sum writes the header with its checksums.
func (h *header) sum(frame []byte) {
	h.payload = crc32.Update(seed(h.salt), castagnoli, frame[headerSize:])
	h.put(frame)
}

// encodeMain appends a main or snapshot payload: the length of every record, then their data.
func encodeMain(b []byte, recs []Record) []byte {
	for i := range recs {
		b = binary.AppendUvarint(b, uint64(len(recs[i].Data)))
	}
	for i := range recs {
		b = append(b, recs[i].Data...)
	}
	return b
}

// coldRecord is a record that is carried forward.
type coldRecord struct {
	seq   uint64
	stamp Stamp
	data  []byte
}

// encodeCold appends a cold payload: for every record the distance to its predecessor and its length (and, if flagged,
// its stamp as a difference), then the data. It returns the flags.
func encodeCold(b []byte, recs []coldRecord) ([]byte, uint8) {
	var flags uint8
	for i := range recs {
		if recs[i].stamp != recs[0].stamp {
			flags = flagStamps
		}
	}
	prev, at := recs[0].seq, recs[0].stamp
	for i := range recs {
		b = binary.AppendUvarint(b, recs[i].seq-prev)
		b = binary.AppendUvarint(b, uint64(len(recs[i].data)))
		prev = recs[i].seq
		if flags&flagStamps == 0 {
			continue
		}
		s := recs[i].stamp
		if s == at {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		b = binary.AppendVarint(b, s.Wall-at.Wall)
		b = binary.AppendVarint(b, s.Age-at.Age)
		b = binary.AppendUvarint(b, uint64(s.Boot))
		at = s
	}
	for i := range recs {
		b = append(b, recs[i].data...)
	}
	return b, flags
}

// block is a decoded frame. It is immutable.
type block struct {
	first, last uint64
	stamp       Stamp
	data        []byte
	ends        []uint32 // of record i in data
	seqs        []uint64 // nil unless cold
	stamps      []Stamp  // nil unless the records have their own
}

func (b *block) size() int64 {
	return int64(len(b.data)+4*len(b.ends)+8*len(b.seqs)+24*len(b.stamps)) + 128
}

func (b *block) record(i int) []byte {
	var from uint32
	if i > 0 {
		from = b.ends[i-1]
	}
	return b.data[from:b.ends[i]:b.ends[i]]
}

func (b *block) seq(i int) uint64 {
	if b.seqs != nil {
		return b.seqs[i]
	}
	return b.first + uint64(i)
}

func (b *block) stampOf(i int) Stamp {
	if b.stamps != nil {
		return b.stamps[i]
	}
	return b.stamp
}

// find returns the index of the first record whose number is ≥ seq, len(b.ends) if there is none.
func (b *block) find(seq uint64) int {
	if b.seqs == nil {
		if seq <= b.first {
			return 0
		}
		return int(min(seq-b.first, uint64(len(b.ends))))
	}
	i, j := 0, len(b.seqs)
	for i < j {
		if m := (i + j) / 2; b.seqs[m] < seq {
			i = m + 1
		} else {
			j = m
		}
	}
	return i
}

// decode opens the payload of a data frame, whose CRCs have been checked. The block keeps p.
func decode(h *header, p []byte) (*block, error) {
	n := int(h.count)
	if n > len(p) { // every record takes at least its length byte
		return nil, errFrame
	}
	b := &block{first: h.first, last: h.last, stamp: h.stamp, ends: make([]uint32, n)}
	c := cursor{b: p}
	if h.kind == Cold {
		b.seqs = make([]uint64, n)
		if h.flags&flagStamps != 0 {
			b.stamps = make([]Stamp, n)
		}
	}
	var sum uint64
	seq, at := h.first, h.stamp
	for i := range n {
		if h.kind == Cold {
			seq += c.uvarint()
			b.seqs[i] = seq
		}
		sum += c.uvarint()
		if sum > uint64(len(p)) {
			return nil, errFrame
		}
		b.ends[i] = uint32(sum)
		if b.stamps != nil {
			if c.byte() == 1 {
				at = Stamp{Wall: at.Wall + c.varint(), Age: at.Age + c.varint(), Boot: uint32(c.uvarint())}
			}
			b.stamps[i] = at
		}
	}
	if c.bad || uint64(len(c.b)) != sum || (h.kind == Cold && seq != h.last) {
		return nil, errFrame
	}
	b.data = c.b
	return b, nil
}

// cursor reads a payload; bad is set at the first field that does not fit.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) stamp() Stamp {
	return Stamp{Wall: c.varint(), Age: c.varint(), Boot: uint32(c.uvarint())}
}

func appendStamp(b []byte, s Stamp) []byte {
	b = binary.AppendVarint(b, s.Wall)
	b = binary.AppendVarint(b, s.Age)
	return binary.AppendUvarint(b, uint64(s.Boot))
}
