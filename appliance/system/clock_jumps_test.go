package system

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"edgepost/wal"
)

// lived is how long ago the clock says that something was stamped.
func (m *machine) lived(s wal.Stamp) time.Duration {
	return time.Duration(m.clock.Now().Age - m.clock.Placed(s.Age))
}

func (m *machine) wantLived(what string, s wal.Stamp, want time.Duration) {
	m.t.Helper()
	if got := m.lived(s); got > want+time.Second || got < want-time.Second {
		m.t.Errorf("%s: the clock says it is %v old, it is %v", what, got, want)
	}
}

func TestWhatIsStoredBeforeTheClockIsSetIsNotChargedTheOutage(t *testing.T) {
	m := newMachine(t)
	m.start()
	before := m.log()
	m.powerCut(72*time.Hour, y1970)
	m.run(time.Minute)
	meanwhile := m.log()
	m.run(time.Minute)
	m.wrong = 0 // NTP
	after := m.log()
	m.clock.save(false) // as Run does at once
	m.run(time.Hour)
	check := func(when string) {
		t.Helper()
		m.wantLived("stored before the outage, "+when, before, 72*time.Hour+62*time.Minute)
		m.wantLived("stored before the clock was set, "+when, meanwhile, 61*time.Minute)
		m.wantLived("stored after, "+when, after, time.Hour)
	}
	check("same process")
	m.start()
	check("another process")
	m.log()
	m.powerCut(0, time.Time{})
	check("another boot")

	m.log()
	m.powerCut(24*time.Hour, y1970) // once more: the earlier ones are charged this outage
	m.run(time.Minute)
	second := m.log()
	m.wrong = 0
	m.wantLived("stored before the second time the clock was set", second, 0)
	m.wantLived("stored before the first", meanwhile, 25*time.Hour+2*time.Minute)
	m.wantLived("stored before both", before, 97*time.Hour+3*time.Minute)
}

func TestCorrectionsOfASavedClockAreNotCharged(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.log()
	m.powerCut(72*time.Hour, time.Unix(0, m.true_).Add(time.Minute)) // fake-hwclock
	m.run(30 * time.Second)
	s := m.log()
	m.run(30 * time.Second)
	m.wrong = 0
	m.wantLived("stored before NTP answered", s, 30*time.Second)
}

func TestACrashRightAfterTheJump(t *testing.T) {
	for _, sameBoot := range []bool{true, false} {
		m := newMachine(t)
		m.start()
		m.log()
		m.powerCut(72*time.Hour, y1970)
		m.run(time.Minute)
		s := m.log()
		m.run(time.Minute)
		m.wrong = 0
		m.log() // durable, and the state file is not
		m.run(time.Second)
		if sameBoot {
			m.start()
		} else {
			m.powerCut(0, time.Time{})
		}
		if got := m.lived(s); got > 62*time.Second || got < 0 {
			t.Errorf("same boot %v: the clock says it is %v old, it is a minute", sameBoot, got)
		}
	}
}

func TestUntrustedBootBetweenTwoOutages(t *testing.T) {
	m := newMachine(t)
	m.start()
	before := m.log()
	m.powerCut(48*time.Hour, y1970)
	m.run(time.Hour)
	between := m.log() // nobody knows how much of the 72 hours came before it
	m.powerCut(24*time.Hour, time.Time{})
	m.wantLived("stored before both outages", before, 73*time.Hour)
	if got := m.lived(between); got < 0 || got > 24*time.Hour {
		t.Errorf("stored between: %v old", got)
	}
}

// TestJumpsAreBounded: the list keeps the newest, and the file stays readable.
func TestJumpsAreBounded(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.log()
	var last wal.Stamp
	for range 2 * maxJumps {
		m.powerCut(time.Hour, y1970)
		m.run(time.Minute)
		last = m.log()
		m.wrong = 0
		m.log()
		m.clock.save(false)
	}
	if n := len(*m.clock.jumps.Load()); n != maxJumps {
		t.Errorf("%d jumps are kept", n)
	}
	b, err := os.ReadFile(m.path)
	if err != nil || len(b) > maxStateFile {
		t.Fatalf("%d bytes of state, %v", len(b), err)
	}
	m.start()
	m.wantLived("stored before the last jump", last, 0)
}

// TestRandomLifeOfMessages: whatever the kills, outages and clocks, nothing looks older than it is, and
// what was stored and is looked at with a trusted clock does not look much younger.
func TestRandomLifeOfMessages(t *testing.T) {
	type stored struct {
		wal.Stamp
		at int64
	}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := newMachine(t)
		m.start()
		list := []stored{{m.log(), m.true_}}
		op := r.IntN(6)
		for step := range 60 {
			switch op {
			case 0:
				m.start()
			case 1:
				wall := time.Time{}
				if r.IntN(2) == 0 {
					wall = y1970
				}
				m.log()
				m.powerCut(time.Duration(r.Int64N(int64(1000*time.Hour))), wall)
			case 2:
				m.wrong = 0
				m.clock.Now()
			case 3:
				m.run(time.Duration(r.Int64N(int64(5 * time.Hour))))
			default:
				list = append(list, stored{m.log(), m.true_})
			}
			now := m.clock.Now()
			if op = r.IntN(6); op > 1 || r.IntN(2) == 0 {
				m.clock.save(false) // Run does so at once, unless a crash is faster
			}
			for i, s := range list {
				lived, is := m.lived(s.Stamp), time.Duration(m.true_-s.at)
				if lived > is+time.Second {
					t.Fatalf("seed %d step %d: message %d looks %v old and is %v", seed, step, i, lived, is)
				}
				if s.Wall != 0 && now.Wall != 0 && lived < is-time.Minute {
					t.Fatalf("seed %d step %d: message %d looks %v old and is %v, both ends trusted", seed, step, i, lived, is)
				}
			}
		}
	}
}
