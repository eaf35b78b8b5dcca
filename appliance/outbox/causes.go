package outbox

import (
	"cmp"
	"context"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// maxCauses bounds the reasons that are told apart; devices choose some of them.
const maxCauses = 200

// DeadCauses groups the dead letters by reason, the most frequent first. Behind the first maxCauses reasons the others count
// together, with the reason "".
func (b *Outbox) DeadCauses() []message.DeadCause {
	b.mu.Lock()
	entries := b.tables.dead.Entries
	at := make(map[string]int)
	var causes []message.DeadCause
	for i := range entries {
		e := &entries[i]
		reason := e.Reason
		k, ok := at[reason]
		if !ok && len(causes) >= maxCauses {
			reason = ""
			k, ok = at[reason]
		}
		if !ok {
			k = len(causes)
			at[reason] = k
			causes = append(causes, message.DeadCause{Reason: reason})
		}
		c := &causes[k]
		c.Count++
		c.Example = e.Entry
		if e.Wall != 0 {
			c.Newest = time.Unix(0, e.Wall)
			if c.Oldest.IsZero() {
				c.Oldest = c.Newest
			}
		}
	}
	b.mu.Unlock()
	slices.SortFunc(causes, func(a, z message.DeadCause) int {
		return cmp.Or(cmp.Compare(z.Count, a.Count), cmp.Compare(a.Reason, z.Reason))
	})
	return causes
}

// DeadEntries lists the entries above after that have the reason, "" any, oldest first.
func (b *Outbox) DeadEntries(reason string, after uint64) (entries []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.tables.dead.Entries {
		if e := &b.tables.dead.Entries[i]; e.Entry > after && (reason == "" || e.Reason == reason) {
			entries = append(entries, e.Entry)
		}
	}
	return entries
}

// Replace stores a message in place of a dead letter: one frame stores it, with an id of its own, and removes the entry. target is
// the subscription that owes it; 0: whoever matches. See [Outbox.Requeue].
func (b *Outbox) Replace(ctx context.Context, entry, target uint64, m *message.Message) (message.StoredAs, error) {
	defer b.Still()()
	if err := ctx.Err(); err != nil {
		return message.StoredAs{}, err
	}
	if _, err := b.DeadLetter(entry); err != nil {
		return message.StoredAs{}, err
	}
	seq, err := b.log.AppendWait(context.WithoutCancel(ctx),
		wal.Record{Data: appendMessage(nil, m, 0, target, nil), Tag: &Entry{Kind: KindMessage, Msg: m, Target: target}}, takenBack(entry))
	return b.stored(seq, err)
}

// Discard removes a dead letter for good.
func (b *Outbox) Discard(ctx context.Context, entry uint64) error {
	defer b.Still()()
	if _, err := b.DeadLetter(entry); err != nil {
		return err
	}
	if _, err := b.log.AppendWait(context.WithoutCancel(ctx), takenBack(entry)); err != nil {
		return storageProblem(err)
	}
	return nil
}

// takenBack is the record that removes a dead letter.
func takenBack(entry uint64) wal.Record {
	return wal.Record{Data: appendRelease(true, entry), Tag: &Entry{Kind: KindRelease, dead: true, release: entry}}
}
