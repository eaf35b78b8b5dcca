package courier

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
	"edgepost/wal"
)

// rig runs an outbox and a courier inside a synctest bubble against a simple model, through clean
// restarts and crashes. Time stands still but in [rig.sleep] (commits cost a few milliseconds), and
// whatever ends by time ends at half seconds, so a test that sleeps to whole ones knows what has
// happened.
type rig struct {
	t     *testing.T
	rnd   *rand.Rand
	dir   string
	lives int
	start time.Time
	born  time.Time // of this life
	full  time.Time // when the log last took no writes
	o     outbox.Options
	ob    *outbox.Outbox
	c     *Courier

	msgs    []*mMessage
	byID    map[uint64]*mMessage // by the id's number
	place   map[uint64]*mMessage // by every place
	expires map[uint64]int64     // by place, on the age clock
	subs    map[string]*mSub
	keys    map[string]*mMessage
	next    int

	back, died int // how often what a group had given to a session went back, or ended dead, at the session's end

	mu        sync.Mutex      // guards overflows
	overflows map[string]bool // who held too much since the last look
	log       []string
}

// mMessage is a stored message as the model knows it.
type mMessage struct {
	id        message.ID
	topic     message.Topic
	payload   string
	urgent    bool
	retain    bool
	waits     bool // for its delay
	due       time.Time
	cancelled bool
	key       string
	at        time.Time
	fanned    bool  // its last place was matched against the subscriptions
	sentTo    *mSub // the session that was sent it after a group gave it
}

// mSub is a subscription as the model knows it.
type mSub struct {
	name, owner string
	kind        Kind
	filters     []message.Filter
	ttl         time.Duration
	owed        map[uint64]*mDebt
	ended       map[uint64]message.State // by place; the last word
	recent      []mEnd
	dead        map[uint64]bool // became dead letters
	link        *mLink
	members     []*mLink // instead of link, of a Shared
	pull        bool     // read with Fetch
	linked      bool
	noting      bool // noted something
	crossed     bool // was linked or noted something before a restart happened: more than was sent may be flagged
	first       map[mLane]uint64
	unordered   bool // older messages were put back

	life    time.Duration // ends when nobody used it for so long; 0: never
	lifeSet time.Time     // when that was last said
	used    time.Time     // when it was last known to be
	passing []message.Filter
	expect  map[string]bool // payloads that must be handed on, owed or not
	notes   map[uint32][]byte
	got     map[uint32]bool // packet ids of which the client of an exact delivery has the PUBLISH and no PUBREL
}

// mLane is what first transmissions keep their order in.
type mLane struct {
	topic  message.Topic
	urgent bool
}

// links are those that are attached.
func (s *mSub) links() []*mLink {
	if s.link != nil {
		return []*mLink{s.link}
	}
	return s.members
}

// use notes that somebody uses the subscription.
func (s *mSub) use() { s.used = time.Now() }

type mDebt struct {
	born     time.Time
	sends    int
	withdraw bool // cancelled while on its way
	fails    int
	exact    int   // how often a client that counts has it
	giver    *mSub // the group that gave it
}

// mEnd is a settlement that a crash may still undo.
type mEnd struct {
	place uint64
	debt  *mDebt
	at    time.Time
	dead  bool // it was a dead letter before
}

// mLink is a link that keeps what it got until the test looks.
type mLink struct {
	mu     sync.Mutex
	queue  []Delivery // until Flush
	got    []Delivery
	room   int // negative: any
	lost   []Cause
	att    Attachment
	auto   bool
	sel    []message.Filter // what it takes; none: all
	flying map[uint64]bool
	first  map[mLane]uint64 // of a member of a Shared
}

func newLink() *mLink {
	return &mLink{room: 1 << 30, flying: map[uint64]bool{}, first: map[mLane]uint64{}}
}

// free is how many deliveries it takes.
func (l *mLink) free() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.room
}

// setRoom changes how many deliveries it takes.
func (l *mLink) setRoom(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room = n
}

func (l *mLink) Deliver(d Delivery) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == 0 {
		return false
	}
	l.room--
	l.queue = append(l.queue, d)
	return true
}

func (l *mLink) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got, l.queue = append(l.got, l.queue...), nil
}

func (l *mLink) Lost(why Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, why)
}

func (l *mLink) take() (got []Delivery, lost []Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	got, l.got = l.got, nil
	return got, l.lost
}

const (
	rigAttempts = 3
	rigWindow   = 4
	rigUnused   = 5 * time.Minute
)

func newRig(t *testing.T, seed uint64) *rig {
	r := &rig{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), start: time.Now(), born: time.Now(),
		byID: map[uint64]*mMessage{}, place: map[uint64]*mMessage{}, expires: map[uint64]int64{},
		subs: map[string]*mSub{}, overflows: map[string]bool{}, keys: map[string]*mMessage{},
	}
	r.dir = t.TempDir()
	r.o = outbox.Options{
		Epoch: message.NewEpoch(777), Clock: r, Log: slog.New(slog.NewTextHandler(rigLog{r}, nil)),
		Generation: 2 << 10, MaxBytes: 96 << 10, Cache: 16 << 10,
		Linger: -1, // who waits for a mutex does not count as waiting in a bubble, so time must not be needed then
	}
	switch r.rnd.IntN(3) {
	case 0:
		r.o.MaxBytes, r.o.RetainBytes = 48<<10, 1
	case 1:
		r.o.MaxBytes = 8 << 20 // no cleaning for want of room, only for age
		r.o.RetainBytes = 24 << 10
	}
	r.open()
	return r
}

// Now is the log's clock.
func (r *rig) Now() wal.Stamp {
	return wal.Stamp{Wall: time.Now().UnixNano(), Age: int64(time.Hour) + int64(time.Since(r.start)), Boot: 1}
}

// Placed is where an age lies: this clock never counts time off.
func (r *rig) Placed(age int64) int64 { return age }

// rigLog keeps the program's own log, shown when a test fails.
type rigLog struct{ r *rig }

func (w rigLog) Write(p []byte) (int, error) {
	if _, name, ok := strings.Cut(string(p), "more than its share of the log"); ok {
		_, name, _ = strings.Cut(name, "subscription=")
		name, _, _ = strings.Cut(name, " ")
		w.r.mu.Lock()
		w.r.overflows[name] = true
		w.r.mu.Unlock()
	}
	if testing.Verbose() {
		w.r.t.Log(string(p))
	}
	return len(p), nil
}

func (r *rig) say(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf("%8.3fs ", time.Since(r.start).Seconds())+fmt.Sprintf(format, args...))
}

func (r *rig) fail(format string, args ...any) {
	r.t.Helper()
	for _, l := range r.log[max(len(r.log)-1000, 0):] {
		r.t.Log(l)
	}
	r.t.Fatalf(format, args...)
}

// open starts a new life on r.dir.
func (r *rig) open() {
	r.t.Helper()
	r.lives++
	var err error
	if r.ob, err = outbox.Open(filepath.Join(r.dir, fmt.Sprint(r.lives)), r.o); err != nil {
		r.fail("open: %v", err)
	}
	shards := 1 + r.rnd.IntN(3)
	r.c = New(r.ob, Options{
		Rights: allowAll{}, Log: r.o.Log, Shards: shards, Unused: rigUnused,
		Policy: delivery.Policy{Window: rigWindow, MaxAttempts: rigAttempts, Backoff: delivery.Backoff{Base: 500 * time.Millisecond, Max: 500 * time.Millisecond, Jitter: func(n int64) int64 { return n - 1 }}},
	})
	if r.rnd.IntN(3) == 0 {
		r.c.hintBytes = 600 // so that hints are missed
	}
	if err := r.ob.Replay(r.c); err != nil {
		r.fail("replay: %v", err)
	}
	if err := r.ob.Start(); err != nil {
		r.fail("start outbox: %v", err)
	}
	if err := r.c.Start(context.Background()); err != nil {
		r.fail("start courier: %v", err)
	}
	synctest.Wait()
}

func (r *rig) dirOf(life int) string { return filepath.Join(r.dir, fmt.Sprint(life)) }

func (r *rig) close() {
	r.t.Helper()
	r.c.Stop()
	if err := r.ob.Close(); err != nil {
		r.fail("close: %v", err)
	}
	synctest.Wait()
}

// restart stops cleanly and starts again.
func (r *rig) restart() {
	r.say("clean restart")
	r.collect()
	r.close()
	if err := os.Rename(r.dirOf(r.lives), r.dirOf(r.lives+1)); err != nil {
		r.fail("%v", err)
	}
	r.newLife()
	r.open()
	r.after()
}

type outboxEntry = outbox.Entry

// crash goes on with a copy of the directory as it is now, or with busy as it is while something is
// going on; then found looks what became of that.
func (r *rig) crash(busy func(), found ...func()) {
	r.say("crash")
	now := time.Now()
	if busy == nil {
		r.collect()
	} else {
		busy()
	}
	r.copyDir()
	synctest.Wait()
	r.close()
	if r.rnd.IntN(4) == 0 {
		r.spoil(r.dirOf(r.lives + 1))
	}
	_ = os.RemoveAll(r.dirOf(r.lives))
	r.newLife()
	r.open()
	for _, f := range found {
		f()
	}
	r.undo(now)
	r.after()
}

// spoil damages the newest snapshot, if there is one before it.
func (r *rig) spoil(dir string) {
	l, err := wal.Open(dir, wal.Options{Now: r.Now})
	if err != nil {
		r.fail("open the copy: %v", err)
	}
	ids := l.Snapshots()
	if err := l.Close(); err != nil {
		r.fail("close the copy: %v", err)
	}
	if len(ids) < 2 {
		return
	}
	r.say("the newest snapshot is damaged")
	files, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("g%08d", ids[0]), "*"))
	if err != nil {
		r.fail("%v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			r.fail("%v", err)
		}
		for i := len(b) / 3; i < min(len(b)/3+16, len(b)); i++ {
			b[i] ^= 0xff
		}
		if err := os.WriteFile(f, b, 0o600); err != nil {
			r.fail("%v", err)
		}
	}
}

// newLife forgets the links and notes what may be flagged.
func (r *rig) newLife() {
	for name, s := range r.subs {
		if s.kind == Live {
			delete(r.subs, name)
			continue
		}
		if len(s.links()) > 0 || s.pull {
			s.use()
		}
		s.crossed = s.linked || s.noting
		s.link, s.members, s.pull = nil, nil, false
		clear(s.expect)
	}
	r.born = time.Now()
}

func (r *rig) copyDir() {
	r.t.Helper()
	copyLog(r.t, r.dirOf(r.lives), r.dirOf(r.lives+1))
}

// copyLog copies a log's directory that is in use, as a crash would leave it; again when generations came
// or went meanwhile.
func copyLog(t testing.TB, from, to string) {
	t.Helper()
	for range 100 {
		before := listDir(from)
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil && before == listDir(from) {
			return
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the directory never stands still")
}

func listDir(dir string) (names string) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			names += path + "\n"
		}
		return err
	})
	return names
}

// sleep lets time go by, to a whole second.
func (r *rig) sleep(d time.Duration) {
	r.collect()
	r.say("sleep %v", d)
	time.Sleep(d - time.Since(r.start)%time.Second + time.Second)
	synctest.Wait()
	r.after()
}

// half is how long it is until d from now, rounded to a half second that is no whole one.
func (r *rig) half(d time.Duration) time.Duration {
	at := (time.Since(r.start) + d).Truncate(time.Second) + time.Second/2
	return at - time.Since(r.start)
}
