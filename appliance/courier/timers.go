package courier

import "time"

// timers is a heap of subscriptions by when they want a turn.
type timers []timed

// timed is a subscription's place in the heap, which sub.slot numbers.
type timed struct {
	sub *subscription
	at  time.Time
}

func (t timers) wait(now time.Time) time.Duration {
	if len(t) == 0 {
		return time.Hour
	}
	return max(t[0].at.Sub(now), 0)
}

// due takes out a subscription whose time has come; nil when there is none.
func (t *timers) due(now time.Time) *subscription {
	if len(*t) == 0 || (*t)[0].at.After(now) {
		return nil
	}
	sub := (*t)[0].sub
	t.set(sub, time.Time{})
	return sub
}

// set moves the subscription to its place; a zero time takes it out.
func (t *timers) set(sub *subscription, at time.Time) {
	switch i, last := int(sub.slot), len(*t)-1; {
	case at.IsZero() && i < 0:
		return
	case at.IsZero():
		t.swap(i, last)
		(*t)[last] = timed{}
		*t = (*t)[:last]
		sub.slot = -1
		if i < last {
			t.fix(i)
		}
	case i < 0:
		sub.slot = int32(len(*t))
		*t = append(*t, timed{sub, at})
		t.fix(int(sub.slot))
	case !at.Equal((*t)[i].at):
		(*t)[i].at = at
		t.fix(i)
	}
}

func (t timers) swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].sub.slot, t[j].sub.slot = int32(i), int32(j)
}

func (t timers) fix(i int) {
	for i > 0 && t[i].at.Before(t[(i-1)/2].at) {
		t.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		child := 2*i + 1
		if child >= len(t) {
			return
		}
		if r := child + 1; r < len(t) && t[r].at.Before(t[child].at) {
			child = r
		}
		if !t[child].at.Before(t[i].at) {
			return
		}
		t.swap(i, child)
		i = child
	}
}
