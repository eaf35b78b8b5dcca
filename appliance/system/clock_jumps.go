package system

// jump is a time off that was counted only after the machine had been running for a while, because
// until then nobody knew the time. What was stored in between lies on the old axis: its time to live
// has not run during an outage that came before it.
//
// Ages between After and To were read before the jump and behind the last moment that was trusted before
// the outage; on today's axis they lie By later, but before To, where the jump ended. Nothing else has
// such an age. Jumps apply in the order in which they happened.
type jump struct {
	After int64 `json:"after"`
	To    int64 `json:"to"`
	By    int64 `json:"by"`
}

// maxJumps bounds the jumps that are remembered. Each took an outage and a start without a trusted
// clock; of messages from before the last 64 of those, the ones stored while the clock was not trusted
// are charged the outage before them.
const maxJumps = 64

// Placed returns where a moment lies on today's age axis that was read on it, in whatever boot, as age:
// at age itself, or later by the time off that was counted after it was read although it lay before.
// Whoever keeps an age, in memory or on disk, keeps it as it was read and asks here when comparing it
// with the present. The order of two moments is never reversed.
func (c *Clock) Placed(age int64) int64 {
	jumps := c.jumps.Load()
	if jumps == nil {
		return age
	}
	for _, j := range *jumps {
		if j.After < age && age < j.To {
			age = min(age+j.By, j.To)
		}
	}
	return age
}

// jumpedLocked remembers a jump. It replaces the list, for Placed reads it without the lock.
func (c *Clock) jumpedLocked(j jump) {
	if j.To <= j.After || j.By <= 0 {
		return
	}
	var list []jump
	if old := c.jumps.Load(); old != nil {
		list = append(list, (*old)[max(0, len(*old)+1-maxJumps):]...)
	}
	list = append(list, j)
	c.jumps.Store(&list)
	c.dirty = true
}

// unsavedJumpLocked makes up for a jump that a crash kept from the state file although a stamp behind it
// reached the log: was is an age before the jump, now the one that the log proves. What was stored
// between the jump and the crash, a moment later, may seem as young as the newest.
func (c *Clock) unsavedJumpLocked(was, now int64) {
	if by := now - was; c.anchor.wall != 0 && by >= leastStep {
		c.jumpedLocked(jump{After: c.anchor.age, To: now, By: by})
	}
}
