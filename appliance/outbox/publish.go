package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// Publish stores one message. done is called once, after the record is on stable storage or was
// refused, by the log's committer or before Publish returns: it must not block. The outbox owns m
// from here on.
//
// A message whose idempotency key was used by the same publisher within the window (ten minutes, and the last 16,384 keys,
// or one for every 768 bytes of the log's budget if those are fewer) gets the first
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
	began := b.now()
	b.log.Append([]wal.Record{rec}, func(seq uint64, err error) {
		b.took(began, err)
		as, err := b.stored(seq, err)
		if e.idem != nil {
			b.answerTwins(e.idem, as, err)
		}
		done(as, err)
	})
}

// now is when a publish began, if anybody measures.
func (b *Outbox) now() (began time.Time) {
	if b.o.Took != nil {
		began = time.Now()
	}
	return began
}

func (b *Outbox) took(began time.Time, err error) {
	if b.o.Took != nil && err == nil {
		b.o.Took(time.Since(began))
	}
}

// PublishAll stores the messages in one frame: all of them or none. A message that is a replay of an
// earlier one, also of one in the same batch, gets that one's answer. When ctx ends first the messages
// may or may not be stored.
func (b *Outbox) PublishAll(ctx context.Context, ms []*message.Message) ([]message.StoredAs, error) {
	if b.full.Load() {
		return nil, b.overBudget()
	}
	p := batch{out: make([]message.StoredAs, len(ms))}
	for i, m := range ms {
		if err := p.add(b, i, m); err != nil {
			b.answer(&p, 0, message.Problemf(message.CodeInFlight, "the first request with this idempotency key was refused; try again"))
			return nil, err
		}
	}
	if len(p.recs) == 0 {
		return p.out, nil
	}
	done := make(chan error, 1)
	began := b.now()
	b.log.Append(p.recs, func(first uint64, err error) {
		b.took(began, err)
		if err != nil {
			err = storageProblem(err)
		}
		b.answer(&p, first, err)
		done <- err
	})
	select {
	case err := <-done:
		if err != nil {
			return nil, err
		}
		return p.out, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// batch is what PublishAll is about to store.
type batch struct {
	out  []message.StoredAs
	recs []wal.Record
	at   []int            // recs[k] answers out[at[k]]
	keys []*idemKey       // claimed for this batch, by record; nil without a key
	twin map[int]int      // a message with the key of an earlier one of the batch
	by   map[[16]byte]int // first message of the batch with a key
}

// add puts the message at i into the batch. An error is the answer to the whole batch.
func (p *batch) add(b *Outbox, i int, m *message.Message) error {
	e := &Entry{Kind: KindMessage, Msg: m, Held: m.Delay > 0}
	if m.Key != "" {
		e.idem = hashKey(m)
		if first, ok := p.by[e.idem.key]; ok {
			if p.keyOf(first).body != e.idem.body {
				return errKeyReused()
			}
			p.twin[i] = first
			return nil
		}
		as, ok, err := b.claimNow(e.idem)
		if err != nil {
			return err
		}
		if ok {
			p.out[i] = as
			return nil
		}
		if p.by == nil {
			p.by, p.twin = make(map[[16]byte]int), make(map[int]int)
		}
		p.by[e.idem.key] = i
	}
	p.recs = append(p.recs, wal.Record{Data: appendMessage(nil, m, 0, 0, e.idem), Tag: e})
	p.at = append(p.at, i)
	p.keys = append(p.keys, e.idem)
	return nil
}

// keyOf is the key that the message at i claimed.
func (p *batch) keyOf(i int) *idemKey { return p.keys[slices.Index(p.at, i)] }

// answer gives the keys of the batch free and fills in the answers; first is the place of its first
// record.
func (b *Outbox) answer(p *batch, first uint64, err error) {
	for k, i := range p.at {
		var as message.StoredAs
		if err == nil {
			as, _ = b.stored(first+uint64(k), nil)
			p.out[i] = as
		}
		if p.keys[k] != nil {
			b.answerTwins(p.keys[k], as, err)
		}
	}
	for i, first := range p.twin {
		p.out[i] = p.out[first]
		p.out[i].Replayed = true
	}
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

func (b *Outbox) claim(k *idemKey, done func(message.StoredAs, error)) (as message.StoredAs, ok bool, err error, waiting bool) {
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

// claimNow answers from the window or claims the key; an error when the key belongs to another body
// or is on its way.
func (b *Outbox) claimNow(k *idemKey) (as message.StoredAs, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if as, ok, err = b.knownLocked(k); ok || err != nil {
		return as, ok, err
	}
	if _, running := b.tables.running[k.key]; running {
		return as, false, message.Problemf(message.CodeInFlight, "the first request with this idempotency key is still being stored; try again")
	}
	b.tables.running[k.key] = &twins{body: k.body}
	return as, false, nil
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
