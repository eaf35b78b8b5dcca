package torture

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine is a machine of our own around one gateway: it has its own boots, its own time since boot, and a wall clock
// that can be set while it runs. The program runs in its own namespaces of mounts and time, and under
// an emulator that is linked dynamically, so that libfaketime can lie to it about the wall clock.
type machine struct {
	t      *testing.T
	g      *gateway
	boots  int
	bootID string // file that stands in for the kernel's
	offset string // file: seconds between the real wall clock and this machine's
	lib    string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	needs(t, "unshare", "mount", "qemu-x86_64", "faketime")
	libs, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(libs) == 0 {
		cannot(t, "libfaketime is not where Debian has it")
	}
	dir := t.TempDir()
	m := &machine{
		t: t, g: newGateway(t, filepath.Join(t.TempDir(), "data"), ""), lib: libs[0],
		bootID: filepath.Join(dir, "boot_id"), offset: filepath.Join(dir, "offset"),
	}
	return m
}

// boot is kill -9, a power cycle, and a start with the wall clock so far from the real one.
func (m *machine) boot(offset time.Duration) {
	m.t.Helper()
	m.g.kill()
	m.boots++
	if err := os.WriteFile(m.bootID, fmt.Appendf(nil, "%08d-0000-4000-8000-000000000000\n", m.boots), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.setClock(offset)
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		m.t.Fatal(err)
	}
	up, _ := strconv.ParseFloat(strings.Fields(string(uptime))[0], 64)
	back := fmt.Sprint(int(15 - up)) // it has been up for 15 seconds
	m.g.wrap = []string{
		"unshare", "--mount", "--time", "--boottime", back, "--monotonic", back, "--",
		"sh", "-c", `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`, m.bootID,
		"env", "LD_PRELOAD=" + m.lib, "FAKETIME_TIMESTAMP_FILE=" + m.offset, "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
		"qemu-x86_64",
	}
	m.g.start()
}

// setClock sets the wall clock, so far from the real one, as NTP or a person does.
func (m *machine) setClock(offset time.Duration) {
	m.t.Helper()
	tmp := m.offset + ".new"
	if err := os.WriteFile(tmp, fmt.Appendf(nil, "%+d", int64(offset/time.Second)), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(tmp, m.offset); err != nil {
		m.t.Fatal(err)
	}
}

// toEpoch is how far 1970 is away.
func toEpoch() time.Duration { return -time.Duration(time.Now().Unix()-20) * time.Second }

// note is a message with a time to live that nobody takes.
type note struct {
	m    *machine
	a    *api
	what string
	id   string
	sent time.Time
	ttl  time.Duration
}

func (m *machine) note(a *api, what string, ttl time.Duration) note {
	m.t.Helper()
	s, code, why := a.publish("device/d0/in/"+strings.ReplaceAll(what, " ", "-"), what, "Message-TTL", fmt.Sprint(int(ttl/time.Second)))
	if code != http.StatusCreated {
		m.t.Fatalf("publish %s: %d %s", what, code, why)
	}
	return note{m, a, what, s.ID, time.Now(), ttl}
}

func (n note) state() string {
	places, err := n.a.trace(n.id)
	if err != nil {
		n.m.t.Errorf("trace of %q: %v", n.what, err)
	}
	return places["device/d0"].State
}

// waits: it has not expired.
func (n note) waits(when string) {
	n.m.t.Helper()
	if s := n.state(); s != "waiting" {
		n.m.t.Errorf("%s: %q with a time to live of %v is %s after %v", when, n.what, n.ttl, s, time.Since(n.sent).Round(time.Second))
	}
}

// expires: it does so when its time is over, and not before.
func (n note) expires(when string) {
	n.m.t.Helper()
	for time.Since(n.sent) < n.ttl-time.Second {
		n.waits(when)
		time.Sleep(500 * time.Millisecond)
	}
	n.goneSoon(when, n.ttl+5*time.Second-time.Since(n.sent))
}

func (n note) goneSoon(when string, within time.Duration) {
	n.m.t.Helper()
	if !soon(within, func() bool { return n.state() == "expired" }) {
		n.m.t.Errorf("%s: %q with a time to live of %v is still %s %v after it was sent", when, n.what, n.ttl, n.state(), time.Since(n.sent).Round(time.Second))
	}
}

// trusted waits until the gateway believes its clock, or no longer does.
func (m *machine) trusted(a *api, want bool) {
	m.t.Helper()
	within(m.t, 10*time.Second, fmt.Sprintf("clock_trusted did not become %v", want), func() bool { return a.status(m.t).ClockTrusted == want })
}

// TestClock begins in 1970, lets the clock jump both ways, while the gateway runs and across reboots:
// nothing expires early, nothing lives for ever.
func TestClock(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.boot(toEpoch())
	m.g.addDevice("d0")
	a := m.g.api(m.g.addKey())
	m.trusted(a, false)
	hour, day := m.note(a, "sent in 1970 for an hour", time.Hour), m.note(a, "sent in 1970 for a day", 24*time.Hour)
	short := m.note(a, "sent in 1970 for seconds", 4*time.Second)
	short.expires("in 1970")
	short = m.note(a, "sent in 1970 just before the jump", 4*time.Second)
	m.setClock(0)
	m.trusted(a, true)
	hour.waits("after the jump to 2026")
	short.expires("over the jump to 2026")
	present := m.note(a, "sent in 2026 for an hour", time.Hour)

	m.boot(30 * time.Minute)
	m.trusted(a, true)
	hour.waits("half an hour later, after a reboot")
	present.waits("half an hour later, after a reboot")
	m.setClock(30*time.Minute - 400*24*time.Hour)
	m.trusted(a, false)
	short = m.note(a, "sent after a jump back", 4*time.Second)
	short.expires("a year back")
	hour.waits("a year back")

	m.boot(toEpoch())
	m.trusted(a, false)
	hour.waits("in 1970 again")
	early := m.note(a, "sent in 1970 again for an hour", time.Hour)
	short = m.note(a, "sent in 1970 again for seconds", 6*time.Second)
	m.setClock(5 * time.Hour)
	m.trusted(a, true)
	hour.goneSoon("five hours later", 10*time.Second)
	present.goneSoon("five hours later", 10*time.Second)
	day.waits("five hours later")
	early.waits("seconds after it was sent, when the clock was set")
	short.expires("over the second jump")

	m.boot(5*time.Hour - 3*24*time.Hour)
	m.trusted(a, false)
	day.waits("three days back, after a reboot")
	short = m.note(a, "sent three days back", 4*time.Second)
	short.expires("three days back")
	m.boot(30 * time.Hour)
	day.goneSoon("thirty hours later", 10*time.Second)
	s := a.status(t)
	if s.Lost != 0 || !s.ClockTrusted || strings.Contains(strings.Join(s.Warnings, " "), "the disk") {
		t.Errorf("the status says %+v", s)
	}
}
