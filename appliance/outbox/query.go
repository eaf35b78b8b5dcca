package outbox

import (
	"encoding/binary"
	"fmt"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// Scan calls fn with every kept message in [from, to] that the filter selects and that has gone
// out, in sequence order, until fn returns false. Copies for one subscription (requeued) and
// delayed messages that still wait are left out. Messages are decoded only when they match.
func (b *Outbox) Scan(filter message.Filter, from, to uint64, fn func(*message.Message) bool) error {
	var failed error
	err := b.log.Scan(from, to, func(seq uint64, data []byte, stamp wal.Stamp, _ bool) bool {
		topic, ok := topicOf(data)
		if !ok || !filter.Match(topic) {
			return true
		}
		e, err := decode(seq, data, stamp, b.o.Epoch)
		if err != nil {
			failed = err
			return false
		}
		if e.Held || e.Target != 0 {
			return true
		}
		return fn(e.Msg)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("scan log: %w", err)
	}
	return nil
}

// topicOf reads the topic of a message record and nothing else.
func topicOf(data []byte) (message.Topic, bool) {
	if len(data) == 0 || Kind(data[0]) != KindMessage {
		return "", false
	}
	_, n := binary.Uvarint(data[1:])
	if n <= 0 {
		return "", false
	}
	r := reader{b: data[1+n:]}
	t := r.string()
	return message.Topic(t), r.err == nil
}

// Outcome is how the debts of one message ended, as far as the log still tells.
type Outcome struct {
	Message    *message.Message
	Copies     []uint64     // places of the message: the first, and the second copies after a delay or requeue
	Settled    []Settlement // in log order
	Waits      bool         // it waits for its delay
	Due        int64        // then: until when, on the age clock
	Cancelled  bool         // it was withdrawn
	Incomplete bool         // older outcomes may no longer be kept, or were too many to read
}

// Outcome collects what the log says about the message. A Problem with CodeNotFound when the message
// itself is no longer kept, or never existed. It reads what the trail says of the log behind the message, and of that at
// most outcomeRecords records beside those that may be second copies: an outcome that needs more is Incomplete.
func (b *Outbox) Outcome(id message.ID) (Outcome, error) {
	var o Outcome
	if id.Epoch != b.o.Epoch {
		return o, message.Problemf(message.CodeNotFound, "message %s belongs to another log; this one is %s", id, b.o.Epoch)
	}
	e, err := b.Read(id.Seq)
	if err != nil && !Gone(err) {
		return o, fmt.Errorf("trace message: %w", err)
	}
	if err == nil && e.Kind == KindMessage && e.Msg.ID == id {
		o.Message = e.Msg
	}
	copies := map[uint64]bool{id.Seq: true}
	o.Copies = append(o.Copies, id.Seq)
	left := outcomeRecords
	for from := id.Seq + 1; ; {
		head := b.log.Head()
		if err := b.outcomeIn(&o, id, from, head, copies, &left); err != nil {
			return o, fmt.Errorf("trace message: %w", err)
		}
		if b.finishOutcome(&o, id.Seq, head, copies) {
			break
		}
		from = head + 1
	}
	if o.Message == nil {
		return o, message.Problemf(message.CodeNotFound, "message %s is not kept: it never existed, or it was settled and cleaned away", id)
	}
	return o, nil
}

// outcomeRecords is the most records that one outcome reads: about what a minute of a busy gateway stores.
const outcomeRecords = 128 << 10

// outcomeIn reads what the records from…to say, as far as the trail names them.
func (b *Outbox) outcomeIn(o *Outcome, id message.ID, from, to uint64, copies map[uint64]bool, left *int) error {
	for from <= to {
		b.mu.Lock()
		first, last, must := b.tables.trail.next(from, id.Seq, b.tables.applied, copies)
		b.mu.Unlock()
		if first > to {
			return nil
		}
		if *left > 0 || must {
			if err := b.outcomeOf(o, id, first, min(last, to), copies, left, must); err != nil {
				return err
			}
		}
		o.Incomplete = o.Incomplete || *left <= 0
		if from = last + 1; from == 0 {
			return nil
		}
	}
	return nil
}

// outcomeOf reads one stretch; unless it must be read, no more than is left.
func (b *Outbox) outcomeOf(o *Outcome, id message.ID, from, to uint64, copies map[uint64]bool, left *int, must bool) error {
	return b.log.Scan(from, to, func(seq uint64, data []byte, stamp wal.Stamp, _ bool) bool {
		if *left--; *left < 0 && !must {
			return false
		}
		switch {
		case len(data) == 0:
			return true
		case Kind(data[0]) == KindSettlement, Kind(data[0]) == KindCancel, Kind(data[0]) == KindMessage && hasOriginFlag(data):
		default:
			return true
		}
		e, err := decode(seq, data, stamp, b.o.Epoch)
		if err != nil {
			return true
		}
		if e.Kind == KindMessage && e.Msg.ID == id {
			copies[seq] = true
			o.Copies = append(o.Copies, seq)
			o.Message = e.Msg
		}
		o.Cancelled = o.Cancelled || e.Kind == KindCancel && copies[e.Cancel]
		for i := range e.Settled {
			e.Settled[i].Wall = stamp.Wall
		}
		o.Settled = appendOf(o.Settled, e.Settled, copies)
		return true
	})
}

func hasOriginFlag(data []byte) bool {
	flags, n := binary.Uvarint(data[1:])
	return n > 0 && flags&hasOrigin != 0
}

// finishOutcome adds what is not in the log yet; false when the log has grown behind head meanwhile,
// so that some of it may be there by now.
func (b *Outbox) finishOutcome(o *Outcome, seq, head uint64, copies map[uint64]bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.log.Head() != head {
		return false
	}
	for _, e := range b.riding {
		o.Settled = appendOf(o.Settled, e.Settled, copies)
	}
	o.Settled = appendOf(o.Settled, b.pending, copies)
	for _, d := range b.tables.delayed {
		if d.Seq == seq {
			o.Waits, o.Due = true, b.tables.due(d)
		}
	}
	o.Incomplete = o.Incomplete || b.keep.cleanedTo.Load() > seq
	return true
}

func appendOf(out, list []Settlement, copies map[uint64]bool) []Settlement {
	for _, s := range list {
		if copies[s.Seq] {
			out = append(out, s)
		}
	}
	return out
}

// DelayedUntil returns when the delayed message at seq goes out; ok is false when it does not wait.
func (b *Outbox) DelayedUntil(seq uint64) (due int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.tables.delayed {
		if d.Seq == seq {
			return b.tables.due(d), true
		}
	}
	return 0, false
}
