package system

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/wal"
)

var built = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// machine is a computer whose true time, boots and wrong wall clocks the test drives.
type machine struct {
	t     *testing.T
	path  string
	true_ int64 // true unix time
	up    int64 // when this boot began, true time
	boot  int
	wrong int64 // wall − true
	last  wal.Stamp
	clock *Clock
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, path: filepath.Join(t.TempDir(), "clock"), true_: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC).UnixNano()}
	m.up = m.true_ - int64(100*24*time.Hour)
	return m
}

// start runs a new process; whatever ran before was killed.
func (m *machine) start() {
	m.clock = OpenClock(ClockOptions{
		Path: m.path, Built: built, BootID: "boot-" + strconv.Itoa(m.boot),
		Wall:     func() int64 { return m.true_ + m.wrong },
		Boottime: func() int64 { return m.true_ - m.up },
	})
	m.clock.Resume(m.last)
}

func (m *machine) run(d time.Duration) { m.true_ += int64(d) }

// log commits a frame: its stamp is durable.
func (m *machine) log() wal.Stamp { m.last = m.clock.Now(); return m.last }

// powerCut switches the machine off for d and on again with the wall clock at wall (zero: the true time).
func (m *machine) powerCut(d time.Duration, wall time.Time) {
	m.true_ += int64(d)
	m.up = m.true_
	m.boot++
	m.wrong = 0
	if !wall.IsZero() {
		m.wrong = wall.UnixNano() - m.true_
	}
	m.start()
	m.run(time.Millisecond) // no two things happen at the same time
}

func (m *machine) wantAge(since wal.Stamp, want time.Duration) {
	m.t.Helper()
	if got := time.Duration(m.clock.Now().Age - since.Age); got < want-time.Second || got > want+time.Second {
		m.t.Errorf("age went on by %v, want %v", got, want)
	}
}

var y1970 = time.Unix(10, 0)

func TestAgeGoesOnThroughKills(t *testing.T) {
	m := newMachine(t)
	m.start()
	s := m.log()
	if s.Age <= 0 || s.Wall != m.true_ || s.Boot != 1 {
		t.Fatalf("%+v", s)
	}
	m.run(time.Hour) // without a stamp
	m.start()
	m.wantAge(s, time.Hour)
	if b := m.clock.Now().Boot; b != 1 {
		t.Errorf("boot %d after a restart of the process", b)
	}
}

func TestTimeSwitchedOffCountsWhenBothEndsAreKnown(t *testing.T) {
	m := newMachine(t)
	m.start()
	s := m.log()
	m.powerCut(48*time.Hour, time.Time{})
	m.wantAge(s, 48*time.Hour)
	if b := m.clock.Now().Boot; b != 2 {
		t.Errorf("boot %d", b)
	}
	m.run(time.Hour)
	m.start()
	m.wantAge(s, 49*time.Hour)
}

func TestAJumpFrom1970CountsOnce(t *testing.T) {
	m := newMachine(t)
	m.start()
	s := m.log()
	m.powerCut(48*time.Hour, y1970)
	m.wantAge(s, 0)
	if m.clock.Trusted() || !m.clock.Time().IsZero() || m.log().Wall != 0 {
		t.Error("1970 is trusted")
	}
	m.run(time.Hour)
	m.wantAge(s, time.Hour)
	m.log()
	m.powerCut(24*time.Hour, y1970) // a second time off, in between never trusted
	m.run(time.Hour)
	m.wantAge(s, 2*time.Hour)
	m.wrong = 0 // NTP
	m.wantAge(s, 74*time.Hour)
	if !m.clock.Trusted() || m.clock.Time().UnixNano() != m.true_ {
		t.Error("the right time is not trusted")
	}
	m.log()
	m.start()
	m.wantAge(s, 74*time.Hour)
}

func TestNeverTrustedBeforeCountsZero(t *testing.T) {
	m := newMachine(t)
	m.wrong = y1970.UnixNano() - m.true_
	m.start()
	s := m.log()
	m.run(time.Minute)
	m.wrong = 0 // from 1970 to 2026: nothing may expire
	m.wantAge(s, time.Minute)
	m = newMachine(t)
	m.wrong = y1970.UnixNano() - m.true_
	m.start()
	s = m.log()
	m.powerCut(48*time.Hour, time.Time{})
	m.wantAge(s, 0)
}

func TestBackwardJumpChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.start()
	s := m.log()
	m.wrong = -int64(24 * time.Hour)
	m.run(time.Hour)
	m.wantAge(s, time.Hour)
	m.wrong = y1970.UnixNano() - m.true_
	m.run(time.Hour)
	m.wantAge(s, 2*time.Hour)
	if m.clock.Trusted() {
		t.Error("1970 is trusted")
	}
}

func TestClockSavedAtShutdownIsCorrectedByNTP(t *testing.T) {
	m := newMachine(t)
	m.start()
	s := m.log()
	m.powerCut(72*time.Hour, time.Unix(0, m.true_).Add(time.Minute)) // fake-hwclock
	m.wantAge(s, time.Minute)
	m.run(30 * time.Second)
	m.wrong = 0
	m.wantAge(s, 72*time.Hour+30*time.Second)
	m.run(time.Hour)
	m.wrong = int64(24 * time.Hour) // a person plays with the clock later on
	m.wantAge(s, 73*time.Hour+30*time.Second)
}

func TestFloorIsTheLastDurableTime(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.run(time.Hour)
	m.log()
	m.powerCut(time.Hour, built.Add(time.Hour)) // above the build, below what was stored
	if m.clock.Trusted() {
		t.Error("a time before the last durable one is trusted")
	}
	m.wrong = 0
	if !m.clock.Trusted() {
		t.Error("the right time is not trusted")
	}
}

func TestLostOrDamagedState(t *testing.T) {
	for _, damage := range []string{"lost", "flipped", "truncated", "foreign"} {
		m := newMachine(t)
		m.start()
		m.run(time.Hour)
		s := m.log()
		m.run(time.Hour)
		b, err := os.ReadFile(m.path)
		if err != nil {
			t.Fatal(err)
		}
		switch damage {
		case "lost":
			err = os.Remove(m.path)
		case "flipped":
			b[strings.Index(string(b), "offset")+9] ^= 1
			err = os.WriteFile(m.path, b, 0o600)
		case "truncated":
			err = os.WriteFile(m.path, b[:len(b)/2], 0o600)
		case "foreign":
			err = os.WriteFile(m.path, make([]byte, 1<<20), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.start()
		m.wantAge(s, time.Hour) // by wall time; the machine's 100 days of uptime do not count
		if n := m.clock.Now(); n.Boot <= s.Boot {
			t.Errorf("%s: boot %d after %d", damage, n.Boot, s.Boot)
		}
	}
}

func TestUnwritableStateStillRuns(t *testing.T) {
	m := newMachine(t)
	m.path = filepath.Join(m.path, "no", "such", "folder")
	m.start()
	s := m.log()
	m.run(time.Hour)
	m.wantAge(s, time.Hour)
	m.start()
	m.wantAge(s, time.Hour)
}

func TestUnknownBootIDIsAnotherBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if err := writeState(path, encodeState(clockState{Version: 1, Boot: 7, Offset: 5, Boottime: 1, Age: 100})); err != nil {
		t.Fatal(err)
	}
	c := OpenClock(ClockOptions{Path: path, BootID: "x", Boottime: func() int64 { return 1000 }, Wall: func() int64 { return 0 }})
	if s := c.Now(); s.Boot != 8 || s.Age != 100 {
		t.Errorf("%+v", s)
	}
}

// TestRandomLife drives kills, power cuts and clocks at random and holds the clock against true time.
func TestRandomLife(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := newMachine(t)
		m.start()
		first := m.log()
		began := m.true_
		var ran int64 // true time with the machine on
		var unsaved int64
		var slack int64 // age that power cuts may have lost
		for step := range 60 {
			durable := m.last
			switch r.IntN(6) {
			case 0:
				m.start()
			case 1:
				off := time.Duration(r.Int64N(int64(1000 * time.Hour)))
				wall := time.Time{}
				if r.IntN(2) == 0 {
					wall = y1970
				}
				slack += unsaved
				unsaved = 0
				m.powerCut(off, wall)
			case 2:
				m.wrong = 0
				m.clock.Now()
			case 3, 4:
				d := r.Int64N(int64(5 * time.Hour))
				m.true_ += d
				ran += d
				unsaved += d
			case 5:
				m.log()
				unsaved = 0
			}
			s := m.clock.Now()
			m.clock.save(false) // as Run does at once
			if s.Age < durable.Age || s.Boot < durable.Boot {
				t.Fatalf("seed %d step %d: %+v went back behind %+v", seed, step, s, durable)
			}
			age := s.Age - first.Age
			if age > m.true_-began+int64(time.Second) {
				t.Fatalf("seed %d step %d: age %v is ahead of true time %v", seed, step, time.Duration(age), time.Duration(m.true_-began))
			}
			if age < ran-slack-int64(time.Second) {
				t.Fatalf("seed %d step %d: age %v is behind the time the machine ran, %v", seed, step, time.Duration(age), time.Duration(ran))
			}
			if s.Wall != 0 && age < m.true_-began-int64(time.Minute) {
				t.Fatalf("seed %d step %d: both ends are trusted, age %v, true %v", seed, step, time.Duration(age), time.Duration(m.true_-began))
			}
		}
	}
}

func TestRunSavesOnlyWhatTheLogDoesNotTell(t *testing.T) {
	for name, c := range map[string]struct {
		logs bool
		want int
	}{"idle": {false, 6}, "busy": {true, 0}} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "clock")
			start := time.Now()
			clock := OpenClock(ClockOptions{
				Path: path, BootID: "a",
				Wall:     func() int64 { return built.UnixNano() + int64(time.Since(start)) },
				Boottime: func() int64 { return int64(time.Since(start)) },
			})
			clock.Resume(wal.Stamp{})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				clock.Run(ctx, func() (wal.Stamp, bool) {
					if !c.logs {
						return wal.Stamp{}, false
					}
					return clock.Now(), true
				})
			}()
			saves, seen := 0, modified(t, path)
			for range 65 {
				time.Sleep(time.Minute) // synctest's time
				synctest.Wait()
				if m := modified(t, path); m != seen {
					saves, seen = saves+1, m
				}
			}
			if saves != c.want {
				t.Errorf("%s: %d saves in 65 minutes, want %d", name, saves, c.want)
			}
			cancel()
			<-done
			if m := modified(t, path); m == seen {
				t.Errorf("%s: nothing was saved at the end", name)
			}
		})
	}
}

// modified tells two contents of the state file apart.
func modified(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRealMachine(t *testing.T) {
	c := OpenClock(ClockOptions{Path: filepath.Join(t.TempDir(), "clock")})
	c.Resume(wal.Stamp{})
	a, b := c.Now(), c.Now()
	if b.Age < a.Age || a.Age <= 0 || c.o.BootID == "" || c.o.Boottime() <= 0 {
		t.Errorf("%+v %+v %q", a, b, c.o.BootID)
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add(encodeState(clockState{Version: 1, BootID: "x", Age: 5}))
	f.Add([]byte("{}\n00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		if again, err := decodeState(encodeState(s)); err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v, %v after %+v", again, err, s)
		}
	})
}
