package appliance

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/audit"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

const (
	auditName = "audit" // the history's name; configured ones are called history/<name>
	auditKeep = 5000    // records kept, about 1.5 MiB

	// What strangers cause is recorded 30 times at once and then every 20 s, so that nobody fills the log with refusals.
	strangerBurst  = 30
	strangerRefill = 20 * time.Second
)

// auditSpec is the subscription that keeps the audit.
func auditSpec() courier.Spec {
	return courier.Spec{Name: auditName, Owner: "$audit", Kind: courier.History, Filters: []message.Filter{message.AuditTopics}, Keep: auditKeep}
}

// auditor writes the audit history. Writing is one at a time: the order of the chain is that of the log.
type auditor struct {
	mu     sync.Mutex // held through a whole write
	head   audit.Head
	last   uint64    // place of the newest record in the log
	missed uint64    // records that could not be stored
	full   time.Time // when strangers have their whole burst again
}

// resumeAudit finds the newest record of the last run.
func (k *core) resumeAudit(ctx context.Context, log *slog.Logger) error {
	seqs, err := k.c.Kept(ctx, auditName)
	if err != nil {
		return fmt.Errorf("read the audit history: %w", err)
	}
	a := &k.auditor
	for _, seq := range slices.Backward(seqs) {
		e, err := k.ob.Read(seq)
		if err == nil && e.Msg != nil {
			if _, head, err := audit.Parse(e.Msg.Payload); err == nil {
				a.head, a.last = head, seq
				return nil
			}
		}
		a.missed++
		log.Error("a record of the audit history is unreadable", "seq", seq, "error", err)
	}
	return nil
}

// audited records what somebody did. A change that was refused as wrong changed nothing and is left out; one that was forbidden
// is recorded.
func (k *core) audited(ctx context.Context, g *auth.Grant, action, object string, err error) {
	p := message.ProblemOf(err)
	switch {
	case err == nil:
		k.record(ctx, audit.Record{Actor: g.Principal(), Action: action, Object: object, Result: audit.OK})
	case p != nil && p.Code == message.CodeForbidden:
		k.recordStranger(ctx, audit.Record{Actor: g.Principal(), Action: action, Object: object, Result: p.Code})
	}
}

// recordStranger records what anybody on the network can cause, within bounds.
func (k *core) recordStranger(ctx context.Context, r audit.Record) {
	a := &k.auditor
	a.mu.Lock()
	now := time.Now()
	full := a.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(strangerRefill)
	over := full.Sub(now) > strangerBurst*strangerRefill
	if over {
		a.missed++
	} else {
		a.full = full
	}
	a.mu.Unlock()
	if !over {
		k.record(ctx, r)
	}
}

// record stores one record and returns when it is on stable storage. What cannot be stored is counted in the next one.
func (k *core) record(ctx context.Context, r audit.Record) {
	if from := auth.RemoteFrom(ctx); from.IsValid() {
		r.From = from.String()
	}
	a := &k.auditor
	a.mu.Lock()
	defer a.mu.Unlock()
	r.At, r.Missed = k.wall(), a.missed
	payload, head, err := a.head.Next(r)
	if err == nil {
		m := message.New(message.AuditTopic, payload)
		m.ContentType = "application/json"
		done := make(chan error, 1)
		var as message.StoredAs
		k.ob.Publish(m, func(stored message.StoredAs, err error) { as = stored; done <- err })
		if err = <-done; err == nil {
			a.head, a.last, a.missed = head, as.Seq, 0
			return
		}
	}
	a.missed++
	k.log.Error("an audit record could not be stored; the next one says how many are missing", "action", r.Action, "error", err)
}

// Audit returns the kept records behind a number, oldest first, each as the bytes that were chained.
func (k *core) Audit(ctx context.Context, g *auth.Grant, after uint64, limit int) ([][]byte, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	defer k.ob.Hold()()
	seqs, err := k.c.Kept(ctx, auditName)
	if err != nil {
		return nil, err
	}
	k.auditor.mu.Lock()
	last := k.auditor.last
	k.auditor.mu.Unlock()
	var from uint64
	if len(seqs) > 0 {
		from = seqs[len(seqs)-1]
	}
	if from < last { // published a moment ago
		err := k.ob.Scan(message.AuditTopics, from+1, last, func(m *message.Message) bool {
			seqs = append(seqs, m.Seq)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	var out [][]byte
	for _, seq := range seqs {
		e, err := k.ob.Read(seq)
		if err != nil || e.Msg == nil {
			continue // the chain shows that it is missing
		}
		if r, _, err := audit.Parse(e.Msg.Payload); err == nil && r.N <= after {
			continue
		}
		if out = append(out, e.Msg.Payload); len(out) >= limit {
			break
		}
	}
	return out, nil
}
