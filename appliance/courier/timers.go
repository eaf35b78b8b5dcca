package courier

import "time"

// timers is a heap of subscriptions by when they want a turn.
type timers []*subscription

func (t timers) wait(now time.Time) time.Duration {
	if len(t) == 0 {
		return time.Hour
	}
	return max(t[0].wakeAt.Sub(now), 0)
}

// due takes out a subscription whose time has come; nil when there is none.
func (t *timers) due(now time.Time) *subscription {
	if len(*t) == 0 || (*t)[0].wakeAt.After(now) {
		return nil
	}
	sub := (*t)[0]
	t.set(sub, time.Time{})
	return sub
}

// set moves the subscription to its place; a zero time takes it out.
func (t *timers) set(sub *subscription, at time.Time) {
	switch {
	case at.IsZero() && sub.slot < 0:
		return
	case at.IsZero():
		i, last := sub.slot, len(*t)-1
		t.swap(i, last)
		(*t)[last] = nil
		*t = (*t)[:last]
		sub.slot = -1
		if i < last {
			t.fix(i)
		}
	case sub.slot < 0:
		sub.wakeAt, sub.slot = at, len(*t)
		*t = append(*t, sub)
		t.fix(sub.slot)
	case !at.Equal(sub.wakeAt):
		sub.wakeAt = at
		t.fix(sub.slot)
	}
}

func (t timers) swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].slot, t[j].slot = i, j
}

func (t timers) fix(i int) {
	for i > 0 && t[i].wakeAt.Before(t[(i-1)/2].wakeAt) {
		t.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		child := 2*i + 1
		if child >= len(t) {
			return
		}
		if r := child + 1; r < len(t) && t[r].wakeAt.Before(t[child].wakeAt) {
			child = r
		}
		if !t[child].wakeAt.Before(t[i].wakeAt) {
			return
		}
		t.swap(i, child)
		i = child
	}
}
