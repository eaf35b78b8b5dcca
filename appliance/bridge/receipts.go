package bridge

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
)

// maxWindow is the largest window that a bridge can have: what waits for confirmations is never more.
const maxWindow = 4096

// Receipts waits for the confirmations of an upstream that gives them one after the other, in the order of sending.
type Receipts chan receipt

type receipt struct {
	o    *Outgoing
	wait func(ctx context.Context) error
}

// NewReceipts makes one for an epoch.
func NewReceipts(e *Epoch) Receipts {
	r := make(Receipts, maxWindow)
	e.Go(r.run)
	return r
}

// Add has the message answered with what wait returns, behind those added before. wait returns when ctx is done,
// which ends the epoch, so that what it then says counts no more.
func (r Receipts) Add(ctx context.Context, o *Outgoing, wait func(ctx context.Context) error) error {
	select {
	case r <- receipt{o, wait}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r Receipts) run(ctx context.Context) error {
	for {
		select {
		case n := <-r:
			err := n.wait(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n.o.Answer(err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Tags numbers what is on its way, as protocols do whose confirmations name a number. The zero value is ready; the first
// number is 1. Safe for concurrent use.
type Tags struct {
	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]*Outgoing
}

// Add gives a message the next number. It is to be called before the message is written: the confirmation may come
// before the write returns.
func (t *Tags) Add(o *Outgoing) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = make(map[uint64]*Outgoing)
	}
	t.last++
	t.waiting[t.last] = o
	return t.last
}

// Take returns the message of a number, once; nil when there is none.
func (t *Tags) Take(tag uint64) *Outgoing {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.waiting[tag]
	delete(t.waiting, tag)
	return o
}

// Waiting returns what was not taken, in the order of sending.
func (t *Tags) Waiting() iter.Seq[*Outgoing] {
	t.mu.Lock()
	left := maps.Clone(t.waiting)
	t.mu.Unlock()
	return func(yield func(*Outgoing) bool) {
		for _, tag := range slices.Sorted(maps.Keys(left)) {
			if !yield(left[tag]) {
				return
			}
		}
	}
}
