package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// ledger is what the clients of one gateway know for certain. Each payload is published once, or
// again under the same idempotency key, so a payload names a message.
type ledger struct {
	mu    sync.Mutex
	tried map[string]string          // payload: its topic; written before the first attempt to publish
	acked map[string]stored          // payload: what the appliance answered
	order map[string][]string        // topic: its acknowledged payloads, as their publisher sent them
	got   map[string][]delivery      // subscription: what came, in order, written before it is acked
	has   map[string]map[string]int  // subscription, id: how often it came
	done  map[string]map[string]bool // subscription, id: written before its client acknowledges it
	ids   []string                   // of acked, in the order of the answers
}

func newLedger() *ledger {
	return &ledger{
		tried: map[string]string{}, acked: map[string]stored{}, order: map[string][]string{},
		got: map[string][]delivery{}, has: map[string]map[string]int{}, done: map[string]map[string]bool{},
	}
}

func (l *ledger) try(topic, payload string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried[payload] = topic
}

func (l *ledger) ack(topic, payload string, s stored) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[payload] = s
	l.order[topic] = append(l.order[topic], payload)
	l.ids = append(l.ids, s.ID)
}

func (l *ledger) receive(sub string, d delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got[sub] = append(l.got[sub], d)
	if l.has[sub] == nil {
		l.has[sub] = map[string]int{}
	}
	l.has[sub][d.ID]++
}

// settle notes what a client is about to acknowledge.
func (l *ledger) settle(sub string, list []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done[sub] == nil {
		l.done[sub] = map[string]bool{}
	}
	for _, d := range list {
		l.done[sub][d.ID] = true
	}
}

// settled reports whether the subscription's client received and acknowledged the message.
func (l *ledger) settled(sub, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.has[sub][id] > 0 && l.done[sub][id]
}

// someAcked returns up to n acknowledged messages: the newest, and others from anywhere.
func (l *ledger) someAcked(n int, rnd *rand.Rand) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := slices.Clone(l.ids[max(0, len(l.ids)-n/2):])
	for range min(n/2, len(l.ids)) {
		ids = append(ids, l.ids[rnd.IntN(len(l.ids))])
	}
	return ids
}

// audience says which subscriptions a topic belongs to.
type audience func(topic string) []string

// missing returns the acknowledged messages that a subscription should have and has not.
func (l *ledger) missing(who audience) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var bad []string
	for payload, s := range l.acked {
		for _, sub := range who(l.tried[payload]) {
			if l.has[sub][s.ID] == 0 {
				bad = append(bad, fmt.Sprintf("%s never received %s on %s, which was acknowledged", sub, s.ID, l.tried[payload]))
			}
		}
	}
	return bad
}

// check returns everything in the ledger that goes against the promises.
func (l *ledger) check(who audience) []string {
	bad := l.missing(who)
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]string{} // payload: the one id that it came with
	for sub, list := range l.got {
		bad = append(bad, l.checkOrder(sub, list)...)
		for _, d := range list {
			bad = append(bad, l.checkContent(sub, &d, ids, who)...)
		}
	}
	for topic, payloads := range l.order {
		last := uint64(0)
		for _, p := range payloads {
			if seq := l.acked[p].Seq; seq <= last {
				bad = append(bad, fmt.Sprintf("%s: published after %d, but stored as %d", topic, last, seq))
			} else {
				last = seq
			}
		}
	}
	return bad
}

// checkOrder: first transmissions come once and in the order of the log, topic by topic; what comes
// again says so.
func (l *ledger) checkOrder(sub string, list []delivery) []string {
	var bad []string
	last, seen := map[string]uint64{}, map[string]bool{}
	for _, d := range list {
		switch {
		case d.Attempt < 1:
			bad = append(bad, fmt.Sprintf("%s received %s as attempt %d", sub, d.ID, d.Attempt))
		case d.Attempt > 1: // may come again, and late
		case seen[d.ID]:
			bad = append(bad, fmt.Sprintf("%s received %s twice, and the second said it was the first attempt", sub, d.ID))
		case d.Seq <= last[d.Topic]:
			bad = append(bad, fmt.Sprintf("%s received %s after %d, both first attempts on %s", sub, d.ID, last[d.Topic], d.Topic))
		default:
			last[d.Topic] = d.Seq
		}
		seen[d.ID] = true
	}
	return bad
}

// checkContent: it is what somebody published, to the right receiver, under one id for ever.
func (l *ledger) checkContent(sub string, d *delivery, ids map[string]string, who audience) []string {
	payload := d.payload()
	topic, known := l.tried[payload]
	if !known || topic != d.Topic {
		return []string{fmt.Sprintf("%s received %s on %s with a payload nobody sent there: %.60q", sub, d.ID, d.Topic, payload)}
	}
	if first, ok := ids[payload]; ok && first != d.ID {
		return []string{fmt.Sprintf("one message on %s was stored twice: %s and %s", topic, first, d.ID)}
	}
	ids[payload] = d.ID
	if s, ok := l.acked[payload]; ok && s.ID != d.ID {
		return []string{fmt.Sprintf("%s was acknowledged as %s", d.ID, s.ID)}
	}
	if slices.Contains(who(topic), sub) {
		return nil
	}
	return []string{fmt.Sprintf("%s received %s, which is not for it", sub, topic)}
}
