package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// Publish stores one message. done is called once, after the record is on stable storage or was
// refused, by the log's committer or before Publish returns: it must not block. The outbox owns m
// from here on.
//
// A message whose idempotency key was used by the same publisher within the window gets the first
// one's answer with Replayed set, or [message.CodeKeyReused] when the body differs. A twin of a
// publish that is still on its way to disk waits for it.
func (b *Outbox) Publish(m *message.Message, done func(message.StoredAs, error)) {
	if b.full.Load() {
		done(message.StoredAs{}, b.overBudget())
		return
	}
	e := &Entry{Kind: KindMessage, Msg: m, Held: m.Delay > 0}
	if m.Key != "" {
		e.idem = hashKey(m)
		if !b.first(e.idem, done) {
			return
		}
	}
	rec := wal.Record{Data: appendMessage(make([]byte, 0, len(m.Payload)+len(m.Topic)+64), m, 0, 0, e.idem), Tag: e}
	b.log.Append([]wal.Record{rec}, func(seq uint64, err error) {
		as, err := b.stored(seq, err)
		if e.idem != nil {
			b.answerTwins(e.idem, as, err)
		}
		done(as, err)
	})
}

// PublishAll stores the messages in one frame: all of them or none. A message that is a replay of an
// earlier one keeps that one's answer.
func (b *Outbox) PublishAll(ctx context.Context, ms []*message.Message) ([]message.StoredAs, error) {
	if b.full.Load() {
		return nil, b.overBudget()
	}
	out := make([]message.StoredAs, len(ms))
	var recs []wal.Record
	var at []int
	for i, m := range ms {
		e := &Entry{Kind: KindMessage, Msg: m, Held: m.Delay > 0}
		if m.Key != "" {
			e.idem = hashKey(m)
			known, ok, err := b.known(e.idem)
			if err != nil {
				return nil, err
			}
			if ok {
				out[i] = known
				continue
			}
		}
		recs = append(recs, wal.Record{Data: appendMessage(nil, m, 0, 0, e.idem), Tag: e})
		at = append(at, i)
	}
	if len(recs) == 0 {
		return out, nil
	}
	first, err := b.log.AppendWait(ctx, recs...)
	if err != nil {
		return nil, storageProblem(err)
	}
	for k, i := range at {
		out[i], _ = b.stored(first+uint64(k), nil)
	}
	return out, nil
}

func (b *Outbox) stored(seq uint64, err error) (message.StoredAs, error) {
	if err != nil {
		return message.StoredAs{}, storageProblem(err)
	}
	return message.StoredAs{ID: message.ID{Epoch: b.o.Epoch, Seq: seq}, Seq: seq}, nil
}

// first claims the key for this publish. false: an earlier one has it, and done was or will be
// called with that one's answer.
func (b *Outbox) first(k *idemKey, done func(message.StoredAs, error)) bool {
	as, ok, err, waiting := b.claim(k, done)
	if waiting {
		return false
	}
	if ok {
		b.last.Replayed.Add(1)
	}
	if ok || err != nil {
		done(as, err)
		return false
	}
	return true
}

func (b *Outbox) claim(k *idemKey, done func(message.StoredAs, error)) (as message.StoredAs, ok bool, err error, waiting bool) { //nolint:revive // the error is an answer among others here
	b.mu.Lock()
	defer b.mu.Unlock()
	if as, ok, err = b.knownLocked(k); ok || err != nil {
		return as, ok, err, false
	}
	t, running := b.tables.running[k.key]
	switch {
	case !running:
		b.tables.running[k.key] = &twins{body: k.body}
		return as, false, nil, false
	case t.body != k.body:
		return as, false, errKeyReused(), false
	default:
		t.waiting = append(t.waiting, done)
		return as, false, nil, true
	}
}

// known answers from the window; an error when the key belongs to another body or is on its way.
func (b *Outbox) known(k *idemKey) (message.StoredAs, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	as, ok, err := b.knownLocked(k)
	if _, running := b.tables.running[k.key]; running && !ok && err == nil {
		err = message.Problemf(message.CodeInFlight, "the first request with this idempotency key is still being stored; try again")
	}
	return as, ok, err
}

func (b *Outbox) knownLocked(k *idemKey) (message.StoredAs, bool, error) {
	r, ok := b.tables.idem.get(k.key, b.Age())
	switch {
	case !ok:
		return message.StoredAs{}, false, nil
	case r.body != k.body:
		return message.StoredAs{}, false, errKeyReused()
	}
	return message.StoredAs{ID: message.ID{Epoch: b.o.Epoch, Seq: r.seq}, Seq: r.seq, Replayed: true}, true, nil
}

func errKeyReused() error {
	return message.Problemf(message.CodeKeyReused, "this idempotency key was used for another message; use a new key for a new message")
}

func (b *Outbox) answerTwins(k *idemKey, as message.StoredAs, err error) {
	b.mu.Lock()
	t := b.tables.running[k.key]
	delete(b.tables.running, k.key)
	b.mu.Unlock()
	if t == nil {
		return
	}
	as.Replayed = true
	for _, done := range t.waiting {
		done(as, err)
	}
}

// hashKey hashes what makes two publishes the same: who and key; and what must then be equal.
func hashKey(m *message.Message) *idemKey {
	k := new(idemKey)
	h := sha256.Sum256([]byte(m.From + "\x00" + m.Key))
	copy(k.key[:], h[:])
	d := sha256.New()
	for _, s := range [...]string{string(m.Topic), m.ContentType, m.Event.ID, m.Event.Source, m.Event.Type} {
		d.Write(binary.AppendUvarint(nil, uint64(len(s))))
		d.Write([]byte(s))
	}
	d.Write(m.Payload)
	copy(k.body[:], d.Sum(nil))
	return k
}

func encodeChange(c *Change) ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode change: %w", err)
	}
	return append([]byte{byte(KindChange)}, body...), nil
}

func appendCancel(seq uint64) []byte {
	return binary.AppendUvarint([]byte{byte(KindCancel)}, seq)
}

// again stores a second copy of what is at from: with a new place, the same id. target 0 offers it
// to whoever matches. extra records share its frame.
func (b *Outbox) again(ctx context.Context, from uint64, target uint64, extra ...wal.Record) (message.StoredAs, error) {
	e, err := b.Read(from)
	if err != nil {
		return message.StoredAs{}, fmt.Errorf("read message %d: %w", from, err)
	}
	if e.Kind != KindMessage {
		return message.StoredAs{}, fmt.Errorf("record %d is not a message", from)
	}
	m := *e.Msg
	m.Delay, m.Expires = 0, 0
	origin := m.ID.Seq
	rec := wal.Record{Data: appendMessage(nil, &m, origin, target, nil), Tag: &Entry{Kind: KindMessage, Msg: &m, Target: target, origin: origin}}
	seq, err := b.log.AppendWait(ctx, append([]wal.Record{rec}, extra...)...)
	if err != nil {
		return message.StoredAs{}, storageProblem(err)
	}
	return message.StoredAs{ID: m.ID, Seq: seq}, nil
}
