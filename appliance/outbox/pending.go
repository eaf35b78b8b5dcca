package outbox

import (
	"slices"
	"time"
	"unicode/utf8"

	"edgepost/wal"
)

// settleDelay is the longest a settlement waits for a frame to ride in: DESIGN §6.
const settleDelay = time.Second

// settleBatch is how many settlements may wait before they get a frame of their own, and the most
// that one record holds.
const settleBatch = 4096

// Settle ends debts. It does not wait: the settlements ride in the next frame, at the latest after
// [settleDelay]; while the storage takes no writes they are kept. Reasons are cut to [maxReason].
func (b *Outbox) Settle(list ...Settlement) {
	if len(list) == 0 {
		return
	}
	b.mu.Lock()
	if len(b.pending) == 0 {
		b.flush.Reset(settleDelay)
	}
	for _, s := range list {
		s.Reason = cut(s.Reason)
		b.pending = append(b.pending, s)
	}
	b.given += int64(len(list))
	many := len(b.pending) >= settleBatch
	b.mu.Unlock()
	if many {
		b.log.Flush()
	}
}

// SettleSoon writes the settlements that were handed over so far, now, and does not wait. An error says
// why the storage takes none.
func (b *Outbox) SettleSoon() error {
	b.log.Flush()
	return b.log.Health()
}

// cut bounds a reason to what a record holds, between two signs.
func cut(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(reason[n]) {
		n--
	}
	return reason[:n]
}

// collect runs on the committer just before it seals a frame.
func (b *Outbox) collect(add func(wal.Record)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) == 0 {
		return
	}
	list := b.pending
	b.pending = nil
	b.flush.Stop()
	for len(list) > 0 {
		n := min(len(list), settleBatch)
		e := &Entry{Kind: KindSettlement, Settled: list[:n:n]}
		b.riding = append(b.riding, e)
		add(wal.Record{Data: encodeSettlements(e.Settled), Tag: e})
		list = list[n:]
	}
}

// landedLocked notes that a record of settlements is durable: traces find it in the log from here on.
func (b *Outbox) landedLocked(e *Entry) {
	if i := slices.Index(b.riding, e); i >= 0 {
		b.riding = slices.Delete(b.riding, i, i+1)
	}
}

// settled tells who waits in SettleNow that n more settlements are durable and with the feed: before
// that, the feed could still be asked what it owes and answer without them.
func (b *Outbox) settled(n int) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.durable += int64(n)
	if b.progress != nil {
		close(b.progress)
		b.progress = nil
	}
}

// settlePoll is how often a waiting SettleNow asks whether the storage still takes writes.
const settlePoll = 100 * time.Millisecond

// SettleNow returns when every settlement that was handed over so far is durable and its record with
// the feed. When the storage takes no writes it returns a [message.Problem]; the settlements are kept
// and written later.
func (b *Outbox) SettleNow() error {
	b.mu.Lock()
	target := b.given
	b.mu.Unlock()
	for {
		b.mu.Lock()
		if b.durable >= target {
			b.mu.Unlock()
			return nil
		}
		if b.progress == nil {
			b.progress = make(chan struct{})
		}
		progress := b.progress
		b.mu.Unlock()
		b.log.Flush()
		select {
		case <-progress:
		case <-time.After(settlePoll):
			if err := b.log.Health(); err != nil {
				return storageProblem(err)
			}
		}
	}
}
