package outbox

import (
	"context"
	"encoding/binary"
	"fmt"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// Note is something that a protocol must still know after a crash, kept with a subscription: an MQTT
// packet id and what it stands for. A key without a value forgets it.
type Note struct {
	Key   uint32
	Value []byte // at most 1 KiB; empty forgets the key
}

// Notes are changes of one subscription's notes.
type Notes struct {
	Sub  uint64
	List []Note
}

// maxNotes bounds the notes of one record, and maxNote the bytes of one.
const (
	maxNotes = 4096
	maxNote  = 1 << 10
)

func appendNotes(b []byte, n *Notes) []byte {
	b = append(b, byte(KindNote))
	b = binary.AppendUvarint(b, n.Sub)
	b = binary.AppendUvarint(b, uint64(len(n.List)))
	for _, note := range n.List {
		b = binary.AppendUvarint(b, uint64(note.Key))
		b = appendString(b, string(note.Value))
	}
	return b
}

func decodeNotes(data []byte) (Notes, error) {
	r := reader{b: data}
	n := Notes{Sub: r.uvarint()}
	count := r.uvarint()
	if count > maxNotes {
		return Notes{}, fmt.Errorf("decode notes: %d are too many", count)
	}
	for range count {
		key, value := r.uvarint(), r.string()
		if len(value) > maxNote {
			return Notes{}, fmt.Errorf("decode notes: one has %d bytes", len(value))
		}
		n.List = append(n.List, Note{Key: uint32(key), Value: []byte(value)})
	}
	if r.err != nil {
		return Notes{}, fmt.Errorf("decode notes: %w", r.err)
	}
	return n, nil
}

func noteRecord(n *Notes) wal.Record {
	return wal.Record{Data: appendNotes(nil, n), Tag: &Entry{Kind: KindNote, Notes: *n}}
}

// Note makes notes durable. done runs on the log's committer after the fsync, or at once when they
// cannot be stored, and must not block.
func (b *Outbox) Note(n *Notes, done func(error)) {
	b.log.Append([]wal.Record{noteRecord(n)}, func(_ uint64, err error) {
		if err != nil {
			err = storageProblem(err)
		}
		done(err)
	})
}

// PublishNoted stores a message and notes in one frame: both or neither. See [Outbox.Publish]; the
// message's idempotency key is not looked at.
func (b *Outbox) PublishNoted(m *message.Message, n *Notes, done func(message.StoredAs, error)) {
	b.PublishTo(m, 0, n, done)
}

// PublishTo is PublishNoted of a message that the subscription target alone owes; 0: whoever matches. n may
// be nil.
func (b *Outbox) PublishTo(m *message.Message, target uint64, n *Notes, done func(message.StoredAs, error)) {
	if b.full.Load() {
		done(message.StoredAs{}, b.overBudget())
		return
	}
	e := &Entry{Kind: KindMessage, Msg: m, Target: target, Held: m.Delay > 0}
	recs := []wal.Record{{Data: appendMessage(make([]byte, 0, len(m.Payload)+len(m.Topic)+64), m, 0, target, nil), Tag: e}}
	if n != nil {
		recs = append(recs, noteRecord(n))
	}
	began := b.now()
	b.log.Append(recs, func(seq uint64, err error) {
		b.took(began, err)
		done(b.stored(seq, err))
	})
}

// PublishAllNoted stores messages and notes in one frame, all or none, and returns after the fsync. The messages'
// idempotency keys are not looked at.
func (b *Outbox) PublishAllNoted(ms []*message.Message, n *Notes) error {
	if len(ms) > 0 && b.full.Load() {
		return b.overBudget()
	}
	recs := make([]wal.Record, 0, len(ms)+1)
	for _, m := range ms {
		e := &Entry{Kind: KindMessage, Msg: m, Held: m.Delay > 0}
		recs = append(recs, wal.Record{Data: appendMessage(nil, m, 0, 0, nil), Tag: e})
	}
	if len(n.List) > 0 {
		recs = append(recs, noteRecord(n))
	}
	if len(recs) == 0 {
		return nil
	}
	done := make(chan error, 1)
	b.log.Append(recs, func(_ uint64, err error) { done <- err })
	if err := <-done; err != nil {
		return storageProblem(err)
	}
	return nil
}

// NoteWait is Note for callers that wait.
func (b *Outbox) NoteWait(ctx context.Context, n *Notes) error {
	done := make(chan error, 1)
	b.Note(n, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
