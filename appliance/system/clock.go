package system

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"edgepost/wal"
)

// Heartbeat is how much age may be lost when the power fails: the clock makes its age durable that
// often unless the log does. It is the only regular write of an idle appliance.
const Heartbeat = 10 * time.Minute

const (
	// settleWindow is how long after its first trusted time a boot may still correct it forwards:
	// systemd-timesyncd and fake-hwclock start with the time of the last shutdown until NTP answers.
	settleWindow = int64(10 * time.Minute)
	leastStep    = int64(time.Second) // smaller differences of the two clocks are drift
	checkEvery   = time.Minute

	oldest   = 1_767_225_600 * int64(time.Second) // 2026-01-01: no earlier time can be right
	firstAge = int64(time.Second)                 // where the axis begins; 0 would mean "never" in a message
)

// Clock tells wall time, which may be wrong, and age, which orders and expires. It is safe for
// concurrent use.
//
// Age is one axis in nanoseconds for the whole life of a data directory. It runs with
// CLOCK_BOOTTIME, so neither NTP nor a person can move it, and it never goes back. Within one boot
// of the machine age − boottime is constant; the clock keeps that offset with the boot id in a
// small file, so a process that is killed and started again goes on as if nothing had happened.
// Another boot goes on from the last durable age: time switched off counts zero, until the wall
// clock was trusted before and after it. Then the difference is added, once, at a restart or
// while running.
//
// What was read of the axis in a boot before its time off was counted is behind by that much: nothing
// may compare a kept age with the present but through [Clock.Placed]. So a message stored before the
// clock was set is not charged the outage that came before it. Only the state file tells of this: when
// it is lost, such messages may expire early by that outage.
//
// Wall time is trusted from its floor on: the newest of the build, the last trusted time on disk, and 2026.
// A gateway without a battery that starts in 1970 is untrusted until NTP answers. (Once a wrong
// time far ahead was stored the right one is below the floor: deleting the file "clock" and one
// start without trust brings it back. Age is not touched by any of this.)
//
// Invariants: Now().Age never decreases, over restarts neither; Now().Wall is 0 or at least the floor;
// Placed(a) is at least a, and at most the present for an a that was read.
type Clock struct {
	o    ClockOptions
	wake chan struct{} // tells Run that something must be saved

	jumps atomic.Pointer[[]jump] // oldest first; nil: none. Replaced under mu

	mu     sync.Mutex
	boot   uint32 // number of this boot in the life of the data directory
	same   bool   // the state on disk is of this boot
	owing  bool   // the state on disk says that its boot's time off was not yet counted
	offset int64  // age − boottime
	last   int64  // highest age handed out
	floor  int64  // of the wall clock, unix ns

	floorAge int64 // the age at which floor was the time, or a later one

	anchor  moment // newest trusted moment before this boot; or before this start
	latest  moment // newest trusted moment of this start
	trusts  bool   // the wall clock was trusted when last asked
	stored  bool   // something behind anchor may have been stored
	gap     bool   // the machine was off since anchor; that time is not yet counted
	gapEnds int64  // age from which the gap takes no more corrections; 0 before it was counted

	dirty     bool  // the state on disk must change
	savedAge  int64 // age on disk
	saveFails bool  // the last save failed; logged once
}

// moment is one instant on both clocks; wall 0 means there was none.
type moment struct{ age, wall int64 }

// ClockOptions configure a [Clock]. The functions and BootID are the machine's unless given.
type ClockOptions struct {
	Path     string       // of the state file; "" keeps no state
	Built    time.Time    // when this program was built
	Log      *slog.Logger // nil: discard
	Wall     func() int64 // unix time in nanoseconds
	Boottime func() int64 // nanoseconds since the machine was started, sleep included
	BootID   string       // differs for every start of the machine; "" unknown
}

// OpenClock reads the state that an earlier start left. Damage is logged and costs only what the
// log's stamps do not tell. Before the clock is used for expiry call [Clock.Resume].
func OpenClock(o ClockOptions) *Clock {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Wall == nil {
		o.Wall = func() int64 { return time.Now().UnixNano() }
	}
	if o.Boottime == nil {
		o.Boottime = boottime
	}
	if o.BootID == "" {
		o.BootID = bootID()
	}
	c := &Clock{o: o, wake: make(chan struct{}, 1)}
	s, ok := readState(o.Path, o.Log)
	now := o.Boottime()
	switch {
	case !ok:
		c.boot, c.offset = 1, firstAge-now
	case s.BootID != "" && s.BootID == o.BootID && now >= s.Boottime:
		c.same, c.boot, c.offset, c.gap = true, s.Boot, s.Offset, s.Gap
	default:
		c.boot, c.offset, c.gap = s.Boot+1, s.Age-now, s.TrustedWall != 0
	}
	c.anchor, c.owing = moment{s.TrustedAge, s.TrustedWall}, s.Gap
	if len(s.Jumps) > 0 {
		c.jumps.Store(&s.Jumps)
	}
	c.last = max(now+c.offset, s.Age)
	c.savedAge, c.dirty = s.Age, !c.same
	c.setFloorLocked()
	return c
}

// Resume goes on from the newest stamp that the log has on disk (the zero Stamp: none), and makes
// the clock's state durable where this start changed it; a failed write is logged and tried again.
// Call it once, after the log was opened and before anything expires.
func (c *Clock) Resume(last wal.Stamp) {
	c.mu.Lock()
	if last != (wal.Stamp{}) {
		c.resumeLocked(last)
	}
	c.setFloorLocked()
	c.stored = last.Age > c.anchor.age
	c.mu.Unlock()
	c.Now() // counts the time switched off, if both ends are known
	c.mu.Lock()
	c.stored = true
	c.mu.Unlock()
	c.save(false)
}

func (c *Clock) resumeLocked(last wal.Stamp) {
	thisBoot := c.same && last.Boot == c.boot
	if !c.same && last.Boot >= c.boot {
		c.boot = last.Boot + 1 // the state was lost
	}
	if boottime := c.o.Boottime(); last.Age > boottime+c.offset {
		if c.owing && last.Wall != 0 && (thisBoot || last.Boot+1 == c.boot) {
			c.unsavedJumpLocked(boottime+c.offset, last.Age)
		}
		c.offset, c.dirty = last.Age-boottime, true
	}
	c.last = max(c.last, last.Age)
	if last.Wall != 0 && last.Age >= c.anchor.age {
		c.anchor = moment{last.Age, last.Wall}
		c.gap = !thisBoot // a trusted stamp of this boot was made after its gap was counted
		return
	}
	if !thisBoot {
		c.gap = c.anchor.wall != 0
	}
}

func (c *Clock) setFloorLocked() {
	c.floor, c.floorAge = max(oldest, c.anchor.wall), c.o.Boottime()+c.offset
	if !c.o.Built.IsZero() {
		c.floor = max(c.floor, c.o.Built.UnixNano())
	}
	if c.floor == c.anchor.wall {
		c.floorAge = c.anchor.age
	}
}

// Now returns the present on both clocks; Wall is 0 while it is not trusted.
func (c *Clock) Now() wal.Stamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	age, wall := max(c.o.Boottime()+c.offset, c.last), c.o.Wall()
	if wall < c.floor {
		wall = 0
		c.dirty = c.dirty || c.trusts // the last trusted moment: after a restart the log's stamps may not tell
		c.trusts = false
	} else {
		c.trusts = true
		if c.gap {
			age = c.countGapLocked(age, wall)
		}
		if c.latest.wall == 0 {
			c.dirty = true
		}
		c.latest = moment{age, wall}
	}
	c.last = age
	if c.dirty {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return wal.Stamp{Wall: wall, Age: age, Boot: c.boot}
}

// countGapLocked adds the time that the machine was off to the age.
func (c *Clock) countGapLocked(age, wall int64) int64 {
	if missing := (wall - c.anchor.wall) - (age - c.anchor.age); missing >= leastStep {
		if c.stored {
			c.jumpedLocked(jump{After: c.anchor.age, To: age + missing, By: missing})
		}
		age += missing
		c.offset += missing
		c.dirty = true
	}
	switch {
	case c.gapEnds == 0:
		c.gapEnds = age + settleWindow
	case age >= c.gapEnds:
		c.gap = false
	}
	return age
}

// Trusted reports whether the wall clock is.
func (c *Clock) Trusted() bool { return c.Now().Wall != 0 }

// Time returns the wall time, the zero Time while it is not trusted.
func (c *Clock) Time() time.Time {
	s := c.Now()
	if s.Wall == 0 {
		return time.Time{}
	}
	return time.Unix(0, s.Wall)
}

// Floored returns the wall time or, while it is not trusted, the earliest that it can be: the floor and what the machine
// was on since. It is for what must be judged by some time, as certificates and tokens are.
func (c *Clock) Floored() time.Time {
	s := c.Now()
	if s.Wall != 0 {
		return time.Unix(0, s.Wall)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Unix(0, c.floor+max(s.Age-c.floorAge, 0))
}

// Built is when the program was built, or 2026 where that is not known: no certificate made by it begins
// later.
func (c *Clock) Built() time.Time {
	if c.o.Built.UnixNano() > oldest {
		return c.o.Built
	}
	return time.Unix(0, oldest)
}

// Run keeps the state on disk fresh until ctx is done: at once when it changed in a way that stamps
// do not tell (a few times a boot), else every [Heartbeat], unless durable, which returns the
// newest stamp of the log, shows that the log did it. It returns after a last save.
func (c *Clock) Run(ctx context.Context, durable func() (wal.Stamp, bool)) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.save(true)
			return
		case <-c.wake:
			c.save(false)
			// A failing disk is tried again at the next tick, not at the next call of Now.
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		case <-tick.C:
			now := c.Now()
			last, _ := durable()
			c.mu.Lock()
			old := now.Age-max(c.savedAge, last.Age) >= int64(Heartbeat)
			c.mu.Unlock()
			c.save(old)
		}
	}
}

func boottime() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil { // kernels before 2.6.39
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	}
	return ts.Nano()
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // "" when there is none: every start counts as a boot
	return strings.TrimSpace(string(b))
}
