package outbox

import (
	"time"

	"edgepost/appliance/message"
)

// DeadLetter is an entry of the dead letters with the subscription's internal number.
type DeadLetter struct {
	message.DeadLetter
	Sub uint64
}

// DeadLetters lists up to limit dead letters with entries above after, oldest first. A message whose
// record can no longer be read is listed without it.
func (b *Outbox) DeadLetters(after uint64, limit int) []DeadLetter {
	b.mu.Lock()
	i, ok := b.tables.dead.find(after)
	if ok {
		i++
	}
	list := b.tables.dead.Entries[i:]
	list = append([]deadEntry(nil), list[:min(limit, len(list))]...)
	b.mu.Unlock()
	out := make([]DeadLetter, 0, len(list))
	for _, e := range list {
		out = append(out, b.deadLetter(e))
	}
	return out
}

// DeadLetter returns one entry; a Problem with CodeNotFound when there is none.
func (b *Outbox) DeadLetter(entry uint64) (DeadLetter, error) {
	b.mu.Lock()
	i, ok := b.tables.dead.find(entry)
	var e deadEntry
	if ok {
		e = b.tables.dead.Entries[i]
	}
	b.mu.Unlock()
	if !ok {
		return DeadLetter{}, message.Problemf(message.CodeNotFound, "there is no dead letter %d", entry)
	}
	return b.deadLetter(e), nil
}

func (b *Outbox) deadLetter(e deadEntry) DeadLetter {
	d := DeadLetter{Sub: e.Sub, DeadLetter: message.DeadLetter{Entry: e.Entry, Reason: e.Reason, Attempts: e.Attempts}}
	if e.Wall != 0 {
		d.At = time.Unix(0, e.Wall)
	}
	if rec, err := b.Read(e.Seq); err == nil && rec.Kind == KindMessage {
		d.Message = rec.Msg
	}
	return d
}

// DeadCount returns how many dead letters are kept, and how many fell out because of the limit
// since the outbox was opened.
func (b *Outbox) DeadCount() (kept, dropped int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.tables.dead.Entries)), b.tables.dead.dropped
}
