package courier

import (
	"cmp"
	"slices"
	"time"
)

// Debtor is a subscription that owes something.
type Debtor struct {
	Name      string
	Kind      Kind
	Owed      int64
	OldestAge time.Duration // of its oldest message; 0 when that cannot be read
}

// Overview is what all subscriptions together owe.
type Overview struct {
	Owed      int64
	Online    int64         // devices that are connected to their inbox, or fetched from it lately
	OldestAge time.Duration // of the oldest message that anybody owes
	Debtors   []Debtor      // who owes most, in that order
}

// Overview looks at every subscription once and reads as many messages as it names debtors, most at most, and one more. With
// most 0 it reads none, and tells no ages.
func (c *Courier) Overview(most int) (o Overview) {
	oldest := uint64(0)
	_ = c.each(func(s *shard) { // fails when everything stops
		var top []*subscription
		for _, sub := range s.subs {
			if sub.spec.internal() {
				continue
			}
			if sub.spec.Kind == Inbox && sub.connected() {
				o.Online++
			}
			n := sub.state.Depth()
			if n == 0 {
				continue
			}
			o.Owed += n
			if seq, ok := sub.state.Oldest(); ok && (oldest == 0 || seq < oldest) {
				oldest = seq
			}
			if most > 0 && (len(top) < most || n > top[len(top)-1].state.Depth()) {
				top = rank(top, sub, most)
			}
		}
		for _, sub := range top {
			seq, _ := sub.state.Oldest()
			o.Debtors = append(o.Debtors, Debtor{Name: sub.spec.Name, Kind: sub.spec.Kind, Owed: sub.state.Depth(), OldestAge: c.ageOf(seq)})
		}
	})
	slices.SortFunc(o.Debtors, func(a, b Debtor) int { return cmp.Or(cmp.Compare(b.Owed, a.Owed), cmp.Compare(a.Name, b.Name)) })
	o.Debtors = o.Debtors[:min(len(o.Debtors), most)]
	if most > 0 && oldest != 0 {
		o.OldestAge = c.ageOf(oldest)
	}
	return o
}

// rank puts a subscription among the first few, the deepest first.
func rank(top []*subscription, sub *subscription, most int) []*subscription {
	i, _ := slices.BinarySearchFunc(top, sub.state.Depth(), func(s *subscription, n int64) int { return cmp.Compare(n, s.state.Depth()) })
	top = slices.Insert(top, i, sub)
	return top[:min(len(top), most)]
}

// ageOf is how old the message at a place of the log is; 0 when it cannot be read.
func (c *Courier) ageOf(seq uint64) time.Duration {
	e, err := c.ob.Read(seq)
	if err != nil || e.Msg == nil {
		return 0
	}
	return max(c.ob.Since(e.Msg.Age), 0)
}
