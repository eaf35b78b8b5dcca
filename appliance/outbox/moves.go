package outbox

import (
	"context"
	"fmt"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// A message gets a second copy, with a new place and the same id, when its delay is over, when a
// dead letter is requeued, and when its priority is changed for one subscription. The copy and the record that says so share a frame.

// releaseBatch is how many delayed messages go out in one frame, and releaseBytes the payload after
// which a frame takes no more.
const (
	releaseBatch = 256
	releaseBytes = 1 << 20
)

// Still keeps every message from getting a second copy until the returned function is called: for
// whoever is about to withdraw all of them.
func (b *Outbox) Still() (release func()) {
	b.moves.Lock()
	return b.moves.Unlock
}

// copyOf makes a second copy of the message at from. target 0 offers it to whoever matches.
func (b *Outbox) copyOf(from, target uint64, change ...func(*message.Message)) (wal.Record, message.ID, error) {
	e, err := b.Read(from)
	if err != nil {
		return wal.Record{}, message.ID{}, fmt.Errorf("read message %d: %w", from, err)
	}
	if e.Kind != KindMessage {
		return wal.Record{}, message.ID{}, fmt.Errorf("record %d is not a message", from)
	}
	m := *e.Msg
	m.Delay, m.Expires = 0, 0
	for _, fn := range change {
		fn(&m)
	}
	origin := m.ID.Seq
	tag := &Entry{Kind: KindMessage, Msg: &m, Target: target, origin: origin}
	return wal.Record{Data: appendMessage(nil, &m, origin, target, nil), Tag: tag}, m.ID, nil
}

// release lets the delayed messages go whose time has come; false when they have to wait for the
// storage.
func (k *keeper) release() bool {
	for {
		n, err := k.releaseSome()
		if err != nil {
			k.b.o.Log.Warn("delayed messages wait for storage", "error", err)
			return false
		}
		if n == 0 {
			return true
		}
	}
}

func (k *keeper) releaseSome() (n int, err error) {
	b := k.b
	defer b.Still()()
	var recs []wal.Record
	bytes := 0
	for _, d := range b.dueNow() {
		rec, _, err := b.copyOf(d.Seq, 0)
		switch {
		case err == nil:
			recs = append(recs, rec)
			bytes += len(rec.Data)
		case Gone(err):
			b.o.Log.Error("delayed message lost on disk", "seq", d.Seq, "error", err)
		default:
			return 0, err
		}
		recs = append(recs, wal.Record{Data: appendRelease(false, d.Seq), Tag: &Entry{Kind: KindRelease, release: d.Seq}})
		if n++; bytes > releaseBytes {
			break
		}
	}
	if n == 0 {
		return 0, nil
	}
	return n, b.appendAndWait(recs...)
}

// dueNow lists the first delayed messages whose time has come.
func (b *Outbox) dueNow() []delayed {
	age := b.Age()
	b.mu.Lock()
	defer b.mu.Unlock()
	var now []delayed
	for _, d := range b.tables.delayed {
		if d.Due > age || len(now) == releaseBatch {
			break
		}
		if b.tables.due(d) <= age {
			now = append(now, d)
		}
	}
	return now
}

// appendAndWait makes the records durable in one frame.
func (b *Outbox) appendAndWait(recs ...wal.Record) error {
	done := make(chan error, 1)
	b.log.Append(recs, func(_ uint64, err error) { done <- err })
	return <-done
}

// Requeue takes a dead letter back: one frame stores a second copy of the message for the same
// subscription, with the same id and a new place, and removes the entry. Of several at the same time
// one succeeds; for the others there is no such entry. ctx is not waited for once the copy is on its
// way to the log.
func (b *Outbox) Requeue(ctx context.Context, entry uint64) (message.StoredAs, error) {
	return b.requeue(ctx, entry, false)
}

// Offer is Requeue, but the copy is owed by whoever matches.
func (b *Outbox) Offer(ctx context.Context, entry uint64) (message.StoredAs, error) {
	return b.requeue(ctx, entry, true)
}

func (b *Outbox) requeue(ctx context.Context, entry uint64, toAll bool) (message.StoredAs, error) {
	defer b.Still()()
	if err := ctx.Err(); err != nil {
		return message.StoredAs{}, err
	}
	d, err := b.DeadLetter(entry)
	if err != nil {
		return message.StoredAs{}, err
	}
	if d.Message == nil {
		return message.StoredAs{}, message.Problemf(message.CodeNotFound, "the message of dead letter %d is no longer readable", entry)
	}
	target := d.Sub
	if toAll {
		target = 0
	}
	rec, id, err := b.copyOf(d.Message.Seq, target)
	if err != nil {
		return message.StoredAs{}, err
	}
	seq, err := b.log.AppendWait(context.WithoutCancel(ctx), rec, takenBack(entry))
	if err != nil {
		return message.StoredAs{}, storageProblem(err)
	}
	return message.StoredAs{ID: id, Seq: seq, Subscriptions: 1}, nil
}

// Move gives one subscription a second copy of a message that it owes, with the same id, another priority and a new place in
// the log, in place of the first: one frame for both. ttl is how long the copy is good for; 0: for ever. Others that owe the
// message are not touched. The subscription that has settled the first copy by then settles the second one at once.
func (b *Outbox) Move(ctx context.Context, m Move, priority uint8, ttl time.Duration) (message.StoredAs, error) {
	defer b.Still()()
	if err := ctx.Err(); err != nil {
		return message.StoredAs{}, err
	}
	rec, id, err := b.copyOf(m.Seq, m.Sub, func(c *message.Message) { c.Priority, c.TTL = priority, ttl })
	if err != nil {
		return message.StoredAs{}, err
	}
	seq, err := b.log.AppendWait(context.WithoutCancel(ctx), wal.Record{Data: appendMove(m), Tag: &Entry{Kind: KindMove, Moved: m}}, rec)
	if err != nil {
		return message.StoredAs{}, storageProblem(err)
	}
	return message.StoredAs{ID: id, Seq: seq + 1, Subscriptions: 1}, nil
}

// Gift is a debt that goes to another subscription, and how long the copy is good for; 0: for ever.
type Gift struct {
	Move
	TTL time.Duration
}

// Give is Move of several debts to another subscription, in their order and without changing priorities. Each is moved or not;
// after an error the first may have been. The caller keeps everything [Outbox.Still] and has looked that both subscriptions are there.
func (b *Outbox) Give(list []Gift, to uint64) error {
	var recs []wal.Record
	bytes := 0
	flush := func() error {
		if len(recs) == 0 {
			return nil
		}
		if err := b.appendAndWait(recs...); err != nil {
			return storageProblem(err)
		}
		recs, bytes = nil, 0
		return nil
	}
	for i := range list {
		g := &list[i]
		rec, _, err := b.copyOf(g.Seq, to, func(c *message.Message) { c.TTL = g.TTL })
		if err != nil {
			return err
		}
		if bytes+len(rec.Data) > releaseBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		recs = append(recs, wal.Record{Data: appendMove(g.Move), Tag: &Entry{Kind: KindMove, Moved: g.Move}}, rec)
		bytes += len(rec.Data)
	}
	return flush()
}
