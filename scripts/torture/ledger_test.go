package torture

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// ledger is what the clients of one gateway know for certain. A message has a name that nobody uses
// twice; publishing again under the same idempotency key keeps the name.
//
// While a power cut happens nothing that is read is certain: ext4 lets an fsync that is under way
// return success. So the ledger counts lives: even ones are certain, a cut begins an odd one, and
// what crosses the border of two lives counts as read in the odd one.
type ledger struct {
	who audience

	mu    sync.Mutex
	life  int
	msgs  map[string]*letter  // by name; written before the first attempt to publish
	acked []*letter           // in the order of the answers
	order map[string][]uint64 // topic: where its acknowledged messages were stored, as their one publisher sent them
	boxes map[string]*inbox   // by subscription
	bad   []string            // what was found wrong at once
}

type letter struct {
	name, topic string
	size        int
	batch       string // "" alone; else all of one batch are stored or none
	id          string // once acknowledged
	seq         uint64
	dim         bool // received in a time that does not count
}

// inbox is what the client of one subscription knows.
type inbox struct {
	list []delivery      // certain receptions in order, without the payload
	has  map[string]int  // id: how often it came; written before it is acknowledged
	done map[string]bool // id: its client has acknowledged it, or is about to
	name map[string]string
	due  int // acknowledged messages for it
}

func newLedger(who audience) *ledger {
	return &ledger{who: who, msgs: map[string]*letter{}, order: map[string][]uint64{}, boxes: map[string]*inbox{}}
}

// now is the current life; see [ledger.firm].
func (l *ledger) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// turn begins the next life.
func (l *ledger) turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life++
}

// unsure is the life of what is in doubt for another reason than a power cut.
const unsure = -1

// firmLocked reports whether what began in a life and ended now is certain.
func (l *ledger) firmLocked(life int) bool { return life == l.life && life%2 == 0 }

// filler is random text that payloads are cut from: it does not compress, and costs nothing to check.
var filler = sync.OnceValue(func() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
	rnd, b := rand.New(rand.NewPCG(1, 2)), make([]byte, 512<<10)
	for i := range b {
		b[i] = letters[rnd.IntN(len(letters))]
	}
	return string(b)
})

// payloadOf makes the payload of a message: its name, its size and text that follows from both.
func payloadOf(name string, size int) string {
	h := fnv.New32a()
	h.Write([]byte(name))
	from := int(h.Sum32() % (256 << 10))
	return name + " " + strconv.Itoa(size) + " " + filler()[from:from+size]
}

// nameOf returns the name of the message that the payload is, unaltered.
func nameOf(payload string) (string, bool) {
	name, rest, _ := strings.Cut(payload, " ")
	number, _, _ := strings.Cut(rest, " ")
	size, err := strconv.Atoi(number)
	return name, err == nil && size >= 0 && size <= 256<<10 && payload == payloadOf(name, size)
}

// try notes that a message will be published, and returns its payload.
func (l *ledger) try(name, topic string, size int, batch string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.msgs[name] = &letter{name: name, topic: topic, size: size, batch: batch}
	return payloadOf(name, size)
}

// ack notes an answer to a publish that began in a life.
func (l *ledger) ack(life int, name string, s stored) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.firmLocked(life) {
		return
	}
	m := l.msgs[name]
	m.id, m.seq = s.ID, s.Seq
	l.acked = append(l.acked, m)
	l.order[m.topic] = append(l.order[m.topic], s.Seq)
	for _, sub := range l.who(m.topic) {
		l.boxLocked(sub).due++
	}
}

// behind reports whether a receiver of the topic is so far behind that publishing must wait: one that
// pins too much of the log gets less than everything, and that is promised, too.
func (l *ledger) behind(topic string) bool {
	const most = 3000
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sub := range l.who(topic) {
		if b := l.boxLocked(sub); b.due-len(b.has) > most {
			return true
		}
	}
	return false
}

func (l *ledger) boxLocked(sub string) *inbox {
	b := l.boxes[sub]
	if b == nil {
		b = &inbox{has: map[string]int{}, done: map[string]bool{}, name: map[string]string{}}
		l.boxes[sub] = b
	}
	return b
}

// receive notes what came over a connection that was made in a life.
func (l *ledger) receive(life int, sub string, d delivery) {
	name, whole := nameOf(d.Text)
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.msgs[name]
	if !whole || m == nil || m.topic != d.Topic {
		l.bad = append(l.bad, fmt.Sprintf("%s received %s on %s with a payload nobody sent there: %.60q", sub, d.ID, d.Topic, d.Text))
		return
	}
	b := l.boxLocked(sub)
	b.has[d.ID]++
	if l.firmLocked(life) {
		d.Text = ""
		b.list = append(b.list, d)
		b.name[d.ID] = m.name // not name, which would keep the payload
	} else {
		m.dim = true
	}
}

// settle notes what a client is about to acknowledge.
func (l *ledger) settle(sub string, ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.boxLocked(sub).done[id] = true
	}
}

// settled reports whether the subscription's client received and acknowledged the message.
func (l *ledger) settled(sub, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.boxLocked(sub)
	return b.has[id] > 0 && b.done[id]
}

// counts are for the test's log: a load that did nothing proves nothing.
func (l *ledger) counts() (acked, tried, received int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.boxes {
		received += len(b.list)
	}
	return len(l.acked), len(l.msgs), received
}

// someAcked returns up to n acknowledged messages: the newest, and others from anywhere.
func (l *ledger) someAcked(n int, rnd *rand.Rand) []letter {
	l.mu.Lock()
	defer l.mu.Unlock()
	var some []letter
	for _, m := range l.acked[max(0, len(l.acked)-n/2):] {
		some = append(some, *m)
	}
	for range min(n/2, len(l.acked)) {
		some = append(some, *l.acked[rnd.IntN(len(l.acked))])
	}
	return some
}

// audience says which subscriptions a topic belongs to.
type audience func(topic string) []string

// missing returns the acknowledged messages that a subscription should have and has not.
func (l *ledger) missing() (bad []string) {
	for m, sub := range l.unreceived() {
		bad = append(bad, fmt.Sprintf("%s never received %s (%s) on %s, which was acknowledged", sub, m.id, m.name, m.topic))
	}
	return bad
}

// unreceived yields each pair of an acknowledged message and a subscription that has not received it.
func (l *ledger) unreceived() func(yield func(letter, string) bool) {
	return func(yield func(letter, string) bool) {
		l.mu.Lock()
		var list []*letter
		var subs []string
		for _, m := range l.acked {
			for _, sub := range l.who(m.topic) {
				if l.boxLocked(sub).has[m.id] == 0 {
					list, subs = append(list, m), append(subs, sub)
				}
			}
		}
		l.mu.Unlock()
		for i, m := range list {
			if !yield(*m, subs[i]) {
				return
			}
		}
	}
}

// check returns everything in the ledger that goes against the promises, but for what is missing.
func (l *ledger) check() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := slices.Clone(l.bad)
	ids := map[string]string{} // name: the one id that it came with
	for sub, b := range l.boxes {
		bad = append(bad, checkOrder(sub, b.list)...)
		for id, name := range b.name {
			m := l.msgs[name]
			switch first := ids[name]; {
			case first != "" && first != id:
				bad = append(bad, fmt.Sprintf("%s was stored twice: as %s and as %s", name, first, id))
			case m.id != "" && m.id != id:
				bad = append(bad, fmt.Sprintf("%s was acknowledged as %s and came as %s", name, m.id, id))
			case !slices.Contains(l.who(m.topic), sub):
				bad = append(bad, fmt.Sprintf("%s received %s, which is not for it", sub, m.topic))
			}
			ids[name] = id
		}
	}
	for topic, seqs := range l.order {
		if !slices.IsSorted(seqs) {
			bad = append(bad, topic+": what was published later was stored earlier")
		}
	}
	return append(bad, l.checkBatchesLocked()...)
}

// checkBatchesLocked: of a batch everything is stored or nothing. What was received between the turn and
// the cut may have been acknowledged durably, and never comes again.
func (l *ledger) checkBatchesLocked() (bad []string) {
	came := map[string]bool{} // by name
	for _, b := range l.boxes {
		for _, name := range b.name {
			came[name] = true
		}
	}
	there, dim, size := map[string]int{}, map[string]int{}, map[string]int{}
	for name, m := range l.msgs {
		if m.batch != "" {
			size[m.batch]++
			if came[name] {
				there[m.batch]++
			} else if m.dim {
				dim[m.batch]++
			}
		}
	}
	for batch, n := range there {
		if n+dim[batch] != size[batch] {
			bad = append(bad, fmt.Sprintf("of the batch %s with %d messages %d were stored", batch, size[batch], n+dim[batch]))
		}
	}
	return bad
}

// checkOrder: first transmissions come once and in the order of the log, topic by topic; what comes
// again says so.
func checkOrder(sub string, list []delivery) (bad []string) {
	last, seen := map[string]uint64{}, map[string]bool{}
	for _, d := range list {
		switch {
		case d.Attempt < 1:
			bad = append(bad, fmt.Sprintf("%s received %s as attempt %d", sub, d.ID, d.Attempt))
		case d.Attempt > 1: // may come again, and late
		case seen[d.ID]:
			bad = append(bad, fmt.Sprintf("%s received %s twice, and the second said it was the first attempt", sub, d.ID))
		case d.Seq <= last[d.Topic]:
			bad = append(bad, fmt.Sprintf("%s received %s after %d, both first attempts on %s", sub, d.ID, last[d.Topic], d.Topic))
		default:
			last[d.Topic] = d.Seq
		}
		seen[d.ID] = true
	}
	return bad
}

// report fails the test with up to 20 findings.
func report(t *testing.T, bad []string) {
	t.Helper()
	for i, b := range bad {
		if i == 20 {
			t.Errorf("… and %d more", len(bad)-i)
			return
		}
		t.Error(b)
	}
}
