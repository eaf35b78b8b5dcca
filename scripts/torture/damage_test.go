package torture

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// past is a data directory with a history, at rest, and what the clients know of it.
type past struct {
	dir    string
	l      *ledger
	app    string
	tokens map[string]string
}

// newPast lives for a while: much is settled, d3 and d1 have a backlog, generations were carried and removed, and
// snapshots written. Then it stops in order, so that every settlement is on disk.
func newPast(t *testing.T, seed uint64) *past {
	t.Helper()
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "[storage]\nmax_bytes = \"2MiB\"\ngeneration = \"64KiB\"\nretain_bytes = \"128KiB\"\n")
	g.start()
	w := newLoad(t, g)
	w.receivers(seed)
	w.publish("d0", "device/d0/in/set", small, 0, seed+10)
	w.publish("d2", "device/d2/in/set", medium, 2*time.Millisecond, seed+11)
	w.publish("d3", "device/d3/in/set", small, 15*time.Millisecond, seed+12)
	w.publish("hall", "group/hall/in/all", small, 5*time.Millisecond, seed+13)
	w.publish("free", "free/x", small, 5*time.Millisecond, seed+14)
	within(t, 60*time.Second, "the log did not get old", func() bool {
		list := generations(t, g, "outbox")
		count := map[string]int{}
		for _, gen := range list {
			count[gen.kind]++
		}
		return count["cold"] > 0 && count["snapshot"] == 2 && count["main"] > 4
	})
	w.hush()
	within(t, 30*time.Second, "what was published did not arrive", func() bool {
		for _, sub := range w.l.unreceived() {
			if sub != "device/d3" {
				return false
			}
		}
		return true
	})
	time.Sleep(200 * time.Millisecond) // the last acks are read
	w.dismiss()
	a := g.api(w.app)
	for i := range 40 {
		name := fmt.Sprintf("late-%d", i)
		topic := []string{"device/d1/in/late", "free/late"}[i%2]
		payload := w.l.try(name, topic, 300, "")
		s, code, why := a.publish(topic, payload)
		if code != 201 {
			t.Fatalf("publish: %d %s", code, why)
		}
		w.l.ack(0, name, s)
	}
	if code := g.stop(); code != 0 {
		t.Fatalf("an orderly stop ended with exit code %d", code)
	}
	return &past{g.dir, w.l, w.app, w.tokens}
}

// generation is one generation on disk, as `log verify` lists it.
type generation struct {
	name, kind string
}

var generationLine = regexp.MustCompile(`(?m)^(g\d{8})  (main|cold|snapshot)\b`)

func generations(t *testing.T, g *gateway, log string) (list []generation) {
	t.Helper()
	out, _ := g.run("log", "verify", log)
	for _, m := range generationLine.FindAllStringSubmatch(out, -1) {
		list = append(list, generation{m[1], m[2]})
	}
	return list
}

// wound is one way to damage a log.
type wound struct {
	what  string
	kind  string // of the generations that it hurts: any two of them, in order
	lossy bool   // records are lost by it
	hurt  func(log string, gens []string, rnd *rand.Rand) error
}

func segment(log, gen string) string { return filepath.Join(log, gen, "00000000000000000001") }

// flip changes one bit somewhere behind the head.
func flip(log, gen string, rnd *rand.Rand) error {
	b, err := os.ReadFile(segment(log, gen))
	if err != nil {
		return err
	}
	from := min(512, len(b)/2)
	b[from+rnd.IntN(len(b)-from)] ^= 1 << rnd.IntN(8)
	return os.WriteFile(segment(log, gen), b, 0o600)
}

func shorten(log, gen string, rnd *rand.Rand) error {
	info, err := os.Stat(segment(log, gen))
	if err != nil {
		return err
	}
	return os.Truncate(segment(log, gen), rnd.Int64N(info.Size()))
}

var wounds = []wound{
	{"the newest snapshot has a wrong bit", "snapshot", false, func(log string, gens []string, rnd *rand.Rand) error { return flip(log, gens[1], rnd) }},
	{"the older snapshot has a wrong bit", "snapshot", false, func(log string, gens []string, rnd *rand.Rand) error { return flip(log, gens[0], rnd) }},
	{"the newest snapshot is gone", "snapshot", false, func(log string, gens []string, _ *rand.Rand) error { return os.RemoveAll(filepath.Join(log, gens[1])) }},
	{"the newest snapshot is shorter", "snapshot", false, func(log string, gens []string, rnd *rand.Rand) error { return shorten(log, gens[1], rnd) }},
	{"both snapshots have a wrong bit", "snapshot", true, func(log string, gens []string, rnd *rand.Rand) error {
		return errors.Join(flip(log, gens[0], rnd), flip(log, gens[1], rnd))
	}},
	{"both snapshots are gone", "snapshot", true, func(log string, gens []string, _ *rand.Rand) error {
		return errors.Join(os.RemoveAll(filepath.Join(log, gens[0])), os.RemoveAll(filepath.Join(log, gens[1])))
	}},
	{"the snapshots are swapped", "snapshot", true, swap},
	{"a generation has a wrong bit", "main", true, func(log string, gens []string, rnd *rand.Rand) error { return flip(log, gens[0], rnd) }},
	{"a generation is gone", "main", true, func(log string, gens []string, _ *rand.Rand) error { return os.RemoveAll(filepath.Join(log, gens[0])) }},
	{"a generation is shorter", "main", true, func(log string, gens []string, rnd *rand.Rand) error { return shorten(log, gens[0], rnd) }},
	{"a generation is empty", "main", true, func(log string, gens []string, _ *rand.Rand) error { return os.Truncate(segment(log, gens[0]), 0) }},
	{"a generation's file is gone", "main", true, func(log string, gens []string, _ *rand.Rand) error { return os.Remove(segment(log, gens[0])) }},
	{"a generation is there twice", "main", false, func(log string, gens []string, rnd *rand.Rand) error {
		return os.CopyFS(filepath.Join(log, fmt.Sprintf("g%08d", 90_000+rnd.IntN(1000))), os.DirFS(filepath.Join(log, gens[0])))
	}},
	{"two generations are swapped", "main", true, swap},
	{"a cold generation has a wrong bit", "cold", true, func(log string, gens []string, rnd *rand.Rand) error { return flip(log, gens[0], rnd) }},
	{"a cold generation is gone", "cold", true, func(log string, gens []string, _ *rand.Rand) error { return os.RemoveAll(filepath.Join(log, gens[0])) }},
	{"a cold generation is there twice", "cold", false, func(log string, gens []string, rnd *rand.Rand) error {
		return os.CopyFS(filepath.Join(log, fmt.Sprintf("g%08d", 90_000+rnd.IntN(1000))), os.DirFS(filepath.Join(log, gens[0])))
	}},
}

func swap(log string, gens []string, _ *rand.Rand) error {
	a, b, tmp := filepath.Join(log, gens[0]), filepath.Join(log, gens[1]), filepath.Join(log, "swap")
	return errors.Join(os.Rename(a, tmp), os.Rename(b, a), os.Rename(tmp, b))
}

// TestDamagedLog damages a log at rest. The gateway starts, delivers everything that can be read, and
// says what it cannot; what was settled does not come back unless the records of that are lost.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	rounds, rnd := plan(t, 1, 30)
	for range rounds {
		p := newPast(t, rnd.Uint64())
		list := wounds
		if !long() { // a third of them at a time
			list = slices.Clone(wounds)
			rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			list = list[:len(list)/3]
		}
		for _, x := range list {
			t.Run(strings.ReplaceAll(x.what, " ", "-"), func(t *testing.T) { p.suffer(t, x, rnd.Uint64()) })
		}
	}
}

// suffer damages a copy of the past, and looks what becomes of it.
func (p *past) suffer(t *testing.T, x wound, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 9))
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "[storage]\ngeneration = \"64KiB\"\n")
	if err := os.CopyFS(g.dir, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(g.dir, "outbox")
	var gens []string
	for _, gen := range generations(t, g, "outbox") {
		if gen.kind == x.kind {
			gens = append(gens, gen.name)
		}
	}
	switch {
	case len(gens) == 0 || len(gens) < 2 && x.kind == "snapshot":
		t.Fatalf("the past has %d generations of the kind %s", len(gens), x.kind)
	case len(gens) > 2:
		at := rnd.IntN(len(gens) - 1)
		gens = []string{gens[at], gens[at+1+rnd.IntN(len(gens)-1-at)]}
	}
	slices.Sort(gens)
	if err := x.hurt(log, gens, rnd); err != nil {
		t.Fatal(err)
	}
	found, _ := g.run("log", "verify", "outbox")
	w := &load{
		t: t, g: g, l: p.l.clone(), who: hall, app: p.app, tokens: p.tokens,
		stop: make(chan struct{}), quit: make(chan struct{}), refused: map[string]int{},
	}
	t.Cleanup(w.dismiss)
	g.start()
	w.receivers(seed)
	w.receive("device/d3", "d3", habit{every: 3}, seed+20)
	w.afterDamage(t, p, x)
	if t.Failed() {
		t.Logf("hurt: %v\n%s", gens, found)
	}
}

// paid waits until nothing is owed any more, and ends the receivers.
func (w *load) paid(t *testing.T) (a *api, s status) {
	t.Helper()
	a = w.g.api(w.app)
	if !soon(60*time.Second, func() bool { return a.get("/v1/status", &s) == nil && s.Owed == 0 }) {
		t.Errorf("%d debts are still open", s.Owed)
	}
	time.Sleep(300 * time.Millisecond) // the last acks
	w.dismiss()
	return a, s
}

// afterDamage waits until everything is settled and compares.
func (w *load) afterDamage(t *testing.T, p *past, x wound) {
	t.Helper()
	a, s := w.paid(t)
	reported := strings.Contains(strings.Join(s.Warnings, " "), "damaged") || s.Lost > 0
	missing, silent := 0, 0
	for m, sub := range w.l.unreceived() {
		missing++
		places, err := a.trace(m.id)
		switch place, ok := places[sub]; {
		case errors.Is(err, errGone) && reported:
		case err != nil:
			t.Errorf("trace of %s (%s): %v", m.id, m.name, err)
		case !ok && !reported:
			silent++
		case ok && place.State != "lost" && place.State != "dead":
			t.Errorf("%s (%s) never came to %s, and is %s (%s)", m.id, m.name, sub, place.State, place.Reason)
		}
	}
	if silent > 0 {
		t.Errorf("%d messages are forgotten silently", silent)
	}
	if missing > 0 && !x.lossy {
		t.Errorf("%d messages are lost, although no record was", missing)
	}
	if missing > 0 && !reported {
		t.Errorf("%d messages are lost and the status says nothing: %+v", missing, s)
	}
	again := w.l.again(p.l)
	if again > 0 && !x.lossy {
		t.Errorf("%d settled messages came back, although no record was lost", again)
	}
	t.Logf("%d are lost, %d settled ones came back; %d warnings, %d debts ended lost", missing, again, len(s.Warnings), s.Lost)
	switch {
	case !x.lossy:
		report(t, w.l.check())
	case x.kind == "snapshot":
		for sub, b := range w.l.boxes {
			report(t, checkOrder(sub, b.list)) // what comes again must say so
		}
		fallthrough
	default:
		report(t, w.l.bad)
	}
}

// clone is a copy to go on with.
func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newLedger(l.who)
	c.msgs, c.acked, c.order = maps.Clone(l.msgs), slices.Clone(l.acked), maps.Clone(l.order)
	for sub, b := range l.boxes {
		c.boxes[sub] = &inbox{list: slices.Clone(b.list), has: maps.Clone(b.has), done: maps.Clone(b.done), name: maps.Clone(b.name), due: b.due}
	}
	return c
}

// again counts the receptions since old of what had been received and acknowledged then.
func (l *ledger) again(old *ledger) (n int) {
	for sub, b := range l.boxes {
		was := old.boxes[sub]
		for id, count := range b.has {
			if was != nil && was.done[id] && count > was.has[id] {
				n++
			}
		}
	}
	return n
}
