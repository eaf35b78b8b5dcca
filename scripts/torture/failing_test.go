package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// failure is a system call that strace lets fail, on the files of the data directory only: the
// runtime's own calls never fail on a machine that still runs. Strace counts the calls of each thread.
type failure struct {
	call string
	errs []string
}

var failures = []failure{
	{"fsync", []string{"EIO"}},
	{"fdatasync", []string{"EIO"}},
	{"write", []string{"EIO", "ENOSPC"}},
	{"pwrite64", []string{"EIO", "ENOSPC"}},
	{"openat", []string{"EIO", "EMFILE"}},
	{"mkdirat", []string{"EIO", "ENOSPC"}},
	{"unlinkat", []string{"EIO"}},
	{"renameat", []string{"EIO"}},
	{"pread64", []string{"EIO"}},
}

// failingConfig has small generations, so that a short run makes, carries and removes many.
const failingConfig = "[storage]\nmax_bytes = \"8MiB\"\ngeneration = \"64KiB\"\nretain_bytes = \"64KiB\"\n"

// TestFailingCalls lets one call after the other fail once. In the short test a few are chosen at
// random; in torture it goes on for each call until a run was too short for the failure to happen.
func TestFailingCalls(t *testing.T) {
	needsStrace(t)
	rounds, rnd := plan(t, 6, 1<<30)
	seed := rnd.Uint64()
	if !long() {
		for range rounds {
			f := failures[rnd.IntN(len(failures))]
			failOnce(t, f.call, f.errs[rnd.IntN(len(f.errs))], fmt.Sprint(1+rnd.IntN(60)), rnd.Uint64())
		}
		return
	}
	for _, f := range failures {
		for _, e := range f.errs {
			for n := 1; n <= rounds && failOnce(t, f.call, e, fmt.Sprint(n), seed+uint64(n)) && !t.Failed(); n++ {
				continue
			}
		}
	}
}

// TestFailingForever lets a call fail from some moment on, for ever and for a while: publishers are refused,
// the process lives and says so, and when the disk works again it goes on by itself.
func TestFailingForever(t *testing.T) {
	needsStrace(t)
	rounds, rnd := plan(t, 2, 100)
	for range rounds {
		f := failures[rnd.IntN(len(failures)-1)] // what cannot be read for good is lost, and reported: see damage_test.go
		from := 10 + rnd.IntN(60)
		when := fmt.Sprintf("%d+", from)
		if rnd.IntN(2) == 0 {
			when = fmt.Sprintf("%d..%d", from, from+5+rnd.IntN(40))
		}
		failOnce(t, f.call, f.errs[rnd.IntN(len(f.errs))], when, rnd.Uint64())
		if t.Failed() {
			return
		}
	}
}

// failOnce runs a gateway with a past under strace with a failing call, then without, and checks the history.
// It reports whether the call did fail.
func failOnce(t *testing.T, call, errno, when string, seed uint64) (happened bool) {
	t.Helper()
	t.Run(fmt.Sprintf("%s-%s-%s", call, errno, when), func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		g := newGateway(t, filepath.Join(t.TempDir(), "data"), failingConfig)
		g.start()
		w := newLoad(t, g)
		w.receivers(seed)
		w.publish("d0", "device/d0/in/set", small, 0, seed+10)
		w.publish("d1", "device/d1/in/set", medium, 5*time.Millisecond, seed+11)
		w.publish("d3", "device/d3/in/set", small, 20*time.Millisecond, seed+12)
		w.publishBatches("free", "free/x", 10, small, seed+14)
		reg := w.administer(seed + 15)
		time.Sleep(150 * time.Millisecond)
		g.kill()

		log := filepath.Join(t.TempDir(), "strace")
		g.wrap = strace(g.dir, log, call, errno, when)
		err := g.tryStart()
		if err == nil {
			time.Sleep(time.Duration(300+rnd.IntN(300)) * time.Millisecond)
			if !g.alive() {
				t.Errorf("the process ended by itself")
			}
			w.whileFailing(t)
		} else if g.alive() {
			t.Errorf("start under strace: %v", err)
		}
		text, _ := os.ReadFile(log)
		happened = strings.Contains(string(text), "(INJECTED)")
		g.kill()
		g.wrap = nil
		g.start()
		w.resumes(t, g.api(w.app))
		w.receive("device/d3", "d3", habit{every: 3}, seed+20)
		if unread(string(text)) {
			w.concludeUnread(t)
			return
		}
		w.conclude(rnd, 1)
		reg.check(t, g.api(w.app))
		if t.Failed() {
			t.Logf("what failed:\n%s", injected(string(text)))
		}
	})
	return happened
}

// unread reports whether a generation could not be opened for reading, at both attempts of a start: it counts as damaged
// then, although it can be read later.
func unread(strace string) bool {
	return len(unreadable.FindAllString(strace, 2)) == 2
}

var unreadable = regexp.MustCompile(`openat\([^\n]*/0{19}1", O_RDONLY\|O_CLOEXEC\) = -1 [^\n]*INJECTED`)

// concludeUnread is conclude after a start that could not read some of the log. What was in there may be lost: then no
// trace says anything else, and nothing waits for ever.
func (w *load) concludeUnread(t *testing.T) {
	t.Helper()
	w.hush()
	a, _ := w.paid(t)
	missing := 0
	for m, sub := range w.l.unreceived() {
		missing++
		places, err := a.trace(m.id)
		if p, ok := places[sub]; err != nil && !errors.Is(err, errGone) || ok && p.State != "lost" && p.State != "dead" {
			t.Errorf("%s (%s) never came to %s, and is %s (%s), %v", m.id, m.name, sub, p.State, p.Reason, err)
		}
	}
	t.Logf("a generation could not be read at the start: %d lost", missing)
}

// whileFailing: what is refused is also said.
func (w *load) whileFailing(t *testing.T) {
	t.Helper()
	a := w.g.api(w.app)
	var s status
	if err := a.get("/v1/status", &s); err != nil {
		t.Errorf("no status while the disk fails: %v", err)
		return
	}
	_, code, why := a.publish("nobody/listens", "x")
	switch code {
	case 201, 507, 503:
	default:
		t.Errorf("a publish while the disk fails was answered %d %s", code, why)
	}
}

// strace is how to run a program so that a call on its data fails.
func strace(dir, log, call, errno, when string) []string {
	args := []string{"strace", "-f", "--seccomp-bpf", "-qq", "-y", "-o", log, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%s", call, errno, when)}
	add := func(parts ...string) { args = append(args, "-P", filepath.Join(parts...)) }
	add(dir)
	add(dir, "clock")
	add(dir, "clock.tmp")
	for _, log := range []string{"outbox", "registry"} {
		for _, name := range []string{"", "lock", "reserve"} {
			add(dir, log, name)
		}
		for n := range 100 {
			add(dir, log, fmt.Sprintf("g%08d", n))
			add(dir, log, fmt.Sprintf("g%08d", n), "00000000000000000001")
			add(dir, log, fmt.Sprintf("t%08d", n))
			add(dir, log, fmt.Sprintf("t%08d", n), "00000000000000000001")
		}
	}
	return args
}

// injected returns the lines of the calls that failed, and those around the first.
func injected(log string) string {
	var out []string
	lines := strings.Split(log, "\n")
	for i, l := range lines {
		if strings.Contains(l, "(INJECTED)") && len(out) < 40 {
			out = append(out, fmt.Sprintf("call %d of %d: %.200s", i, len(lines), l))
		}
	}
	return strings.Join(out, "\n")
}

// needsStrace skips the test where there is no strace, or tracing is not allowed.
func needsStrace(t *testing.T) {
	t.Helper()
	needs(t, "strace")
	if out, err := exec.Command("strace", "-f", "--seccomp-bpf", "-qq", "-o", os.DevNull, "-e", "trace=fsync", "true").CombinedOutput(); err != nil {
		cannot(t, fmt.Sprintf("strace cannot trace here: %v: %s", err, out))
	}
}
