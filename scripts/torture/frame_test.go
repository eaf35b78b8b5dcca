package torture

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// diskFrame is one frame of a log, as `log dump` lists it.
type diskFrame struct {
	gen         string
	off, size   int64
	kind        string
	first, last uint64 // of its records; 0 when it has none
	text        string // what its records are
}

var (
	dumpGeneration = regexp.MustCompile(`^(g\d{8})  `)
	dumpFrame      = regexp.MustCompile(`^ +(\d+)  (\w+)  +(\d+) bytes .*?(?:records (\d+)\.\.(\d+))?$`)
)

func frames(t *testing.T, g *gateway, log string) (list []diskFrame) {
	t.Helper()
	gen := ""
	for line := range strings.Lines(g.must(nil, "log", "dump", log)) {
		line = strings.TrimRight(line, "\n")
		if m := dumpGeneration.FindStringSubmatch(line); m != nil {
			gen = m[1]
		} else if m := dumpFrame.FindStringSubmatch(line); m != nil {
			f := diskFrame{gen: gen, kind: m[2]}
			f.off, _ = strconv.ParseInt(m[1], 10, 64)
			f.size, _ = strconv.ParseInt(m[3], 10, 64)
			f.first, _ = strconv.ParseUint(m[4], 10, 64)
			f.last, _ = strconv.ParseUint(m[5], 10, 64)
			list = append(list, f)
		} else if len(list) > 0 {
			list[len(list)-1].text += strings.TrimSpace(line) + "\n"
		}
	}
	return list
}

// TestDamagedFrame turns one bit in one frame after the other of a young log, which has no snapshot
// yet: what is in other frames is delivered, whatever was in this one.
func TestDamagedFrame(t *testing.T) {
	t.Parallel()
	rounds, rnd := plan(t, 6, 1<<30)
	seed := rnd.Uint64()
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "")
	g.start()
	w := newLoad(t, g)
	w.receive("key/app/jobs", "", habit{every: 16}, seed)
	a := g.api(w.app)
	within(t, 10*time.Second, "the durable subscription was not made", func() bool {
		code, _, err := a.do(http.MethodGet, "/v1/subscriptions/jobs", nil)
		return err == nil && code == http.StatusOK
	})
	for i := range 24 {
		w.store(a, fmt.Sprintf("m%d", i), []string{"device/d0/in/x", "device/d3/in/x", "group/hall/in/x", "free/x"}[i%4], 100+i)
	}
	within(t, 10*time.Second, "jobs did not get its messages", func() bool { return w.backlog("key/app/jobs") == 0 })
	time.Sleep(200 * time.Millisecond)
	w.dismiss()
	g.stop()
	p := &past{g.dir, w.l, w.app, w.tokens}
	list := frames(t, g, "outbox")
	if len(list) < 30 {
		t.Fatalf("the dump shows %d frames", len(list))
	}
	if !long() {
		rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	for _, f := range list[:min(rounds, len(list))] {
		t.Run(fmt.Sprintf("%s-%d-%s", f.kind, f.off, short(f.text)), func(t *testing.T) { p.loseFrame(t, f, rnd.Uint64()) })
	}
}

// short makes a name of what a frame holds.
func short(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '/' || r == '\n' || r == ':' || r == '"' })
	return strings.Join(words[:min(len(words), 4)], "-")
}

func (p *past) loseFrame(t *testing.T, f diskFrame, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "")
	if err := os.CopyFS(g.dir, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	if err := flipAt(filepath.Join(g.dir, "outbox"), f, rnd); err != nil {
		t.Fatal(err)
	}
	w := &load{
		t: t, g: g, l: p.l.clone(), who: hall, app: p.app, tokens: p.tokens,
		stop: make(chan struct{}), quit: make(chan struct{}), refused: map[string]int{},
	}
	t.Cleanup(w.dismiss)
	g.start()
	w.receivers(seed)
	w.receive("device/d3", "d3", habit{every: 1}, seed)
	a := g.api(w.app)
	var s status
	if !soon(20*time.Second, func() bool { return a.get("/v1/status", &s) == nil && s.Owed == 0 }) {
		t.Errorf("%d debts are still open", s.Owed)
	}
	time.Sleep(300 * time.Millisecond)
	w.dismiss()
	for m, sub := range w.l.unreceived() {
		if m.seq < f.first || m.seq > f.last {
			t.Errorf("%s (%s) never came to %s; the damaged frame holds records %d..%d:\n%s", m.id, m.name, sub, f.first, f.last, f.text)
		} else if !strings.Contains(strings.Join(s.Warnings, " "), "damaged") {
			t.Errorf("%s (%s) is lost, and the status says nothing", m.id, m.name)
		}
	}
	report(t, w.l.bad)
}

// TestDamagedRegister turns one bit in one frame after the other of the register's log. The gateway
// starts and says what it lost; a device that is missing loses nothing of what waits for it: when it is added
// again it gets everything.
func TestDamagedRegister(t *testing.T) {
	t.Parallel()
	rounds, rnd := plan(t, 5, 1<<30)
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "")
	g.start()
	w := newLoad(t, g)
	a := g.api(w.app)
	for i := range 12 {
		w.store(a, fmt.Sprintf("m%d", i), []string{"device/d0/in/x", "device/d3/in/x", "group/hall/in/x"}[i%3], 100+i)
	}
	g.stop()
	p := &past{g.dir, w.l, w.app, w.tokens}
	list := frames(t, g, "registry")
	if len(list) < 7 {
		t.Fatalf("the dump shows %d frames", len(list))
	}
	if !long() {
		rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	for _, f := range list[:min(rounds, len(list))] {
		t.Run(fmt.Sprintf("%s-%d", f.kind, f.off), func(t *testing.T) {
			p.loseRegister(t, "a device is missing", func(log string) error { return flipAt(log, f, rnd) })
		})
	}
	t.Run("all-of-it", func(t *testing.T) { p.loseRegister(t, "", os.RemoveAll) })
}

// flipAt turns one bit of a frame.
func flipAt(log string, f diskFrame, rnd *rand.Rand) error {
	b, err := os.ReadFile(segment(log, f.gen))
	if err != nil {
		return err
	}
	b[f.off+rnd.Int64N(f.size)] ^= 1 << rnd.IntN(8)
	return os.WriteFile(segment(log, f.gen), b, 0o600)
}

// loseRegister damages the register and brings the devices that it lost back. With a reason it must say so.
func (p *past) loseRegister(t *testing.T, reason string, hurt func(log string) error) {
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "")
	if err := os.CopyFS(g.dir, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	if err := hurt(filepath.Join(g.dir, "registry")); err != nil {
		t.Fatal(err)
	}
	g.start()
	var s status
	g.must(&s, "status")
	w := &load{
		t: t, g: g, l: p.l.clone(), who: hall, app: p.app, tokens: map[string]string{},
		stop: make(chan struct{}), quit: make(chan struct{}), refused: map[string]int{},
	}
	t.Cleanup(w.dismiss)
	for id, token := range p.tokens {
		w.tokens[id] = token
		if _, err := g.run("device", "show", id); err == nil {
			continue
		}
		if reason != "" && !strings.Contains(strings.Join(s.Warnings, " "), "damaged the register") {
			t.Errorf("%s (%s), and the status says nothing: %v", reason, id, s.Warnings)
		}
		if id == "d0" || id == "d1" {
			w.tokens[id] = g.addDevice(id, "-group", "hall")
		} else {
			w.tokens[id] = g.addDevice(id)
		}
	}
	w.devices(1)
	w.receive("device/d3", "d3", habit{every: 1}, 1)
	if reason == "" { // the epoch is lost too, so every id is another
		within(t, 10*time.Second, "the backlog did not come", func() bool { return w.l.allNamesCame() })
		return
	}
	if !soon(10*time.Second, func() bool { return len(w.l.missing()) == 0 }) {
		report(t, w.l.missing())
	}
	report(t, w.l.check())
}

// allNamesCame reports whether every message came to everybody, under whatever id.
func (l *ledger) allNamesCame() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.acked {
		for _, sub := range l.who(m.topic) {
			if !slices.Contains(slices.Collect(maps.Values(l.boxLocked(sub).name)), m.name) {
				return false
			}
		}
	}
	return true
}
