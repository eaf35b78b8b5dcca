package bridge

import (
	"crypto/sha256"
	"encoding/binary"

	"edgepost/appliance/courier"
)

// remembered is how many ids of a bridge's incoming events are known again. It must exceed what an upstream may
// repeat: all that was on its way, and acknowledgements that it forgot in a crash (6,150 measured with RabbitMQ's
// classic queues and a prefetch of 256).
const (
	remembered = slots * perSlot
	slots      = 512
	perSlot    = 16 // ids in one note: a few bytes more for a single message, few notes for many
)

// Keys of the notes kept with a bridge's subscription. Below idNotes are the upstream's positions.
const (
	idNotes    = 1 << 31
	pausedNote = idNotes + 1<<16
	budgetNote = pausedNote + 1
)

// memory is the ids that came last, as they lie in the notes. A bridge's intake owns it.
//
// A note is a counter, ascending from slot to slot, and up to perSlot ids of 8 bytes. The highest counter is the
// slot that is being filled.
//
// Invariant: known has exactly the ids in ring.
type memory struct {
	known map[uint64]bool
	ring  [slots][]uint64
	count [slots]uint32 // counter of the slot, 0: never used
	at    int           // slot being filled
}

// recall reads what the notes hold.
func recall(notes map[uint32][]byte) *memory {
	m := &memory{known: make(map[uint64]bool)}
	for key, value := range notes {
		if key < idNotes || key >= idNotes+slots || len(value) < 4 {
			continue
		}
		i := key - idNotes
		m.count[i] = binary.BigEndian.Uint32(value)
		for b := value[4:]; len(b) >= 8; b = b[8:] {
			id := binary.BigEndian.Uint64(b)
			m.ring[i] = append(m.ring[i], id)
			m.known[id] = true
		}
		if m.count[i] > m.count[m.at] {
			m.at = int(i)
		}
	}
	return m
}

// idOf makes an id of what names an event.
func idOf(key string) uint64 {
	h := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(h[:])
}

// add remembers ids that are not known, forgets as many of the oldest, and returns the notes that say so.
func (m *memory) add(ids []uint64) []courier.Note {
	changed := make([]int, 0, len(ids)/perSlot+2)
	for _, id := range ids {
		if len(m.ring[m.at]) >= perSlot || m.count[m.at] == 0 {
			m.turn()
		}
		m.ring[m.at] = append(m.ring[m.at], id)
		m.known[id] = true
		if n := len(changed); n == 0 || changed[n-1] != m.at {
			changed = append(changed, m.at)
		}
	}
	notes := make([]courier.Note, len(changed))
	for k, i := range changed {
		value := binary.BigEndian.AppendUint32(nil, m.count[i])
		for _, id := range m.ring[i] {
			value = binary.BigEndian.AppendUint64(value, id)
		}
		notes[k] = courier.Note{Key: idNotes + uint32(i), Value: value}
	}
	return notes
}

// turn goes on to the next slot.
func (m *memory) turn() {
	count := m.count[m.at] + 1
	if m.count[m.at] > 0 {
		m.at = (m.at + 1) % slots
	}
	for _, id := range m.ring[m.at] {
		delete(m.known, id)
	}
	m.ring[m.at], m.count[m.at] = m.ring[m.at][:0], count
}
