package torture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// load is a set of clients that use one gateway while it suffers: publishers and receivers that
// go on by themselves when it comes back, and write down what they know.
type load struct {
	t      *testing.T
	g      *gateway
	l      *ledger
	who    audience
	app    string            // token of the key app
	tokens map[string]string // by device
	stop   chan struct{}     // closed: publishers end
	quit   chan struct{}     // closed: receivers end
	pubs   sync.WaitGroup
	recvs  sync.WaitGroup

	mu      sync.Mutex
	refused map[string]int // problem code: how many publishes ended so
}

// hall is who receives what in most tests: d0 and d1 are in the group hall, and the key app has the
// durable subscription jobs.
func hall(topic string) []string {
	switch {
	case strings.HasPrefix(topic, "device/d"):
		return []string{topic[:len("device/d0")]}
	case strings.HasPrefix(topic, "group/hall/in/"):
		return []string{"device/d0", "device/d1"}
	case strings.HasPrefix(topic, "free/"):
		return []string{"key/app/jobs"}
	default:
		return nil
	}
}

// newLoad adds the devices d0 to d3, d0 and d1 in the group hall, and the key app to a running gateway.
func newLoad(t *testing.T, g *gateway) *load {
	t.Helper()
	w := &load{
		t: t, g: g, l: newLedger(hall), who: hall, tokens: map[string]string{},
		stop: make(chan struct{}), quit: make(chan struct{}), refused: map[string]int{},
	}
	w.app = g.addKey()
	for i := range 4 {
		id := fmt.Sprintf("d%d", i)
		if i < 2 {
			w.tokens[id] = g.addDevice(id, "-group", "hall")
		} else {
			w.tokens[id] = g.addDevice(id)
		}
	}
	// A test that ends early still ends its clients before the gateway's port is another's.
	t.Cleanup(func() { w.hush(); w.dismiss() })
	return w
}

// devices connects d0, d1 and d2. d3 stays away.
func (w *load) devices(seed uint64) {
	w.receive("device/d0", "d0", habit{every: 1}, seed)
	w.receive("device/d1", "d1", habit{every: 7}, seed+1)
	w.receive("device/d2", "d2", habit{every: 5, drop: 150}, seed+2)
}

// receivers connects d0, d1, d2 and the subscription jobs.
func (w *load) receivers(seed uint64) {
	w.devices(seed)
	w.receive("key/app/jobs", "", habit{every: 16}, seed+3)
	a := w.g.api(w.app)
	within(w.t, 10*time.Second, "the durable subscription was not made", func() bool {
		code, _, err := a.do(http.MethodGet, "/v1/subscriptions/jobs", nil)
		return err == nil && code == http.StatusOK
	})
}

func stopped(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pause waits, and ends early when the channel is closed.
func pause(c chan struct{}, d time.Duration) {
	select {
	case <-c:
	case <-time.After(d):
	}
}

// hush ends the publishers.
func (w *load) hush() {
	w.mu.Lock()
	if !stopped(w.stop) {
		close(w.stop)
	}
	w.mu.Unlock()
	w.pubs.Wait()
}

// dismiss ends the receivers.
func (w *load) dismiss() {
	w.mu.Lock()
	if !stopped(w.quit) {
		close(w.quit)
	}
	w.mu.Unlock()
	w.recvs.Wait()
}

// sizes are the least and the most bytes of random text in a payload.
type sizes struct{ least, most int }

func (s sizes) pick(rnd *rand.Rand) int { return s.least + rnd.IntN(s.most-s.least+1) }

var (
	small  = sizes{0, 400}
	medium = sizes{1 << 10, 20 << 10}
	large  = sizes{60_000, 250_000}
)

// publish publishes one message after the other to one topic under idempotency keys: a message whose answer was lost,
// or that was refused for now, is published again until it is acknowledged or the test is over. A wait between
// messages keeps a small disk from filling at once.
func (w *load) publish(name, topic string, sz sizes, wait time.Duration, seed uint64) {
	w.pubs.Go(func() {
		a, rnd := w.g.api(w.app), rand.New(rand.NewPCG(seed, 1))
		for n := 0; !stopped(w.stop); n++ {
			w.await(topic)
			id := fmt.Sprintf("%s-%d", name, n)
			payload := w.l.try(id, topic, sz.pick(rnd), "")
			for !stopped(w.stop) {
				life := w.l.now()
				s, code, problem := a.publish(topic, payload, "Idempotency-Key", id)
				if code == http.StatusCreated {
					w.l.ack(life, id, s)
				}
				if code == http.StatusCreated && w.l.now() == life {
					break
				}
				w.noteRefusal(topic, code, problem)
				pause(w.stop, 3*time.Millisecond)
			}
			if wait > 0 {
				pause(w.stop, wait)
			}
		}
	})
}

// await waits until the receivers of the topic are not too far behind.
func (w *load) await(topic string) {
	for w.l.behind(topic) && !stopped(w.stop) {
		pause(w.stop, 5*time.Millisecond)
	}
}

// noteRefusal counts why a publish failed, and fails the test when it should not have.
func (w *load) noteRefusal(topic string, code int, problem string) {
	switch code {
	case 0: // no answer
	case http.StatusCreated: // of another life
	case http.StatusInsufficientStorage, http.StatusServiceUnavailable, http.StatusConflict:
		w.mu.Lock()
		w.refused[problem]++
		w.mu.Unlock()
	default:
		w.t.Errorf("publish to %s: status %d: %s", topic, code, problem)
	}
}

// refusals returns how many publishes were refused for a reason.
func (w *load) refusals(problem string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused[problem]
}

// publishBatches publishes batches of CloudEvents, each of count messages, as publish does.
func (w *load) publishBatches(name, topic string, count int, sz sizes, seed uint64) {
	w.pubs.Go(func() {
		a, rnd := w.g.api(w.app), rand.New(rand.NewPCG(seed, 4))
		for n := 0; !stopped(w.stop); n++ {
			w.await(topic)
			batch := fmt.Sprintf("%s-%d", name, n)
			var events []map[string]any
			var names []string
			for i := range count {
				id := fmt.Sprintf("%s.%d", batch, i)
				names = append(names, id)
				events = append(events, map[string]any{
					"specversion": "1.0", "id": id, "source": "/torture", "type": "t", "subject": topic,
					"datacontenttype": "text/plain", "data": w.l.try(id, topic, sz.pick(rnd), batch),
				})
			}
			body, _ := json.Marshal(events)
			for !stopped(w.stop) && !w.batchOnce(a, topic, body, names) {
				pause(w.stop, 3*time.Millisecond)
			}
		}
	})
}

func (w *load) batchOnce(a *api, topic string, body []byte, names []string) bool {
	life := w.l.now()
	code, answer, err := a.do(http.MethodPost, "/v1/messages", body, "Content-Type", "application/cloudevents-batch+json")
	if err != nil {
		return false
	}
	if code != http.StatusCreated {
		var p problem
		json.Unmarshal(answer, &p)
		w.noteRefusal(topic, code, p.Code)
		return false
	}
	var all struct{ Messages []stored }
	if err := json.Unmarshal(answer, &all); err != nil || len(all.Messages) != len(names) {
		w.t.Errorf("a batch of %d was answered %.200s", len(names), answer)
		return true
	}
	for i, s := range all.Messages {
		w.l.ack(life, names[i], s)
	}
	return w.l.now() == life
}

// publishWS publishes over one WebSocket, up to depth messages ahead of their answers. What is in
// doubt when the connection breaks is left so.
func (w *load) publishWS(name, topic string, depth int, sz sizes, seed uint64) {
	w.pubs.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 2))
		for n := 0; !stopped(w.stop); {
			life := w.l.now()
			link, err := w.g.dial("", w.app)
			if err != nil {
				pause(w.stop, 5*time.Millisecond)
				continue
			}
			n = w.pipeline(link, life, name, topic, depth, sz, n, rnd)
			link.close()
			pause(w.stop, 2*time.Millisecond)
		}
	})
}

func (w *load) pipeline(link *link, life int, name, topic string, depth int, sz sizes, n int, rnd *rand.Rand) int {
	waiting := map[int64]string{}
	for {
		for len(waiting) < depth && !stopped(w.stop) && (len(waiting) == 0 || !w.l.behind(topic)) {
			w.await(topic)
			n++
			id := fmt.Sprintf("%s-%d", name, n)
			payload := w.l.try(id, topic, sz.pick(rnd), "")
			waiting[int64(n)] = id
			if link.send(map[string]any{"id": n, "pub": map[string]any{"topic": topic, "text": payload, "ct": "text/plain"}}) != nil {
				return n
			}
		}
		if len(waiting) == 0 {
			return n
		}
		f, err := link.read(20 * time.Second)
		if err != nil {
			return n
		}
		if id, ok := waiting[f.ID]; ok && f.OK != nil {
			w.l.ack(life, id, stored{ID: f.OK.ID, Seq: f.OK.Seq})
			delete(waiting, f.ID)
		} else if f.Error != nil {
			switch f.Error.Code {
			case "unavailable", "storage-failed", "storage-full", "quota-exceeded":
				w.noteRefusal(topic, http.StatusServiceUnavailable, f.Error.Code)
			default:
				w.t.Errorf("pub to %s: %s: %s", topic, f.Error.Code, f.Error.Detail)
			}
			return n
		}
	}
}

// habit is how a receiver behaves.
type habit struct {
	every int // acknowledges each so many messages
	drop  int // drops the connection after so many messages, some unacknowledged; 0 never
}

// receive keeps a client connected that writes down what comes and acknowledges it. Without a device it is the
// durable subscription jobs of the key app, else a device's inbox.
func (w *load) receive(sub, device string, h habit, seed uint64) {
	w.recvs.Go(func() {
		rnd, token := rand.New(rand.NewPCG(seed, 3)), w.app
		if device != "" {
			token = w.tokens[device]
		}
		for !stopped(w.quit) {
			life := w.l.now()
			link, err := w.g.dial(device, token)
			if err != nil {
				pause(w.quit, 5*time.Millisecond)
				continue
			}
			if device == "" {
				err = link.send(map[string]any{"id": 2, "sub": map[string]any{"topic": "free/#", "name": "jobs"}})
			}
			if err == nil {
				w.serve(link, life, sub, h, rnd)
			}
			link.close()
		}
	})
}

func (w *load) serve(link *link, life int, sub string, h habit, rnd *rand.Rand) {
	number, count := 0, 0
	var open []delivery
	for !stopped(w.quit) {
		f, err := link.read(300 * time.Millisecond)
		switch {
		case err != nil: // quiet, or cut: what was received is acknowledged if that is still possible
			_ = w.settle(link, sub, number, open, rnd)
			return
		case f.OK != nil:
			number = f.OK.Sub
		case f.Error != nil:
			if f.Error.Code != "unavailable" && f.Error.Code != "storage-failed" && f.Error.Code != "storage-full" {
				w.t.Errorf("%s was told %s: %s", sub, f.Error.Code, f.Error.Detail)
			}
			pause(w.quit, 20*time.Millisecond)
			return
		case f.Msg == nil:
			continue
		default:
			w.l.receive(life, sub, *f.Msg)
			f.Msg.Text = ""
			count++
			if open = append(open, *f.Msg); len(open) < h.every {
				continue
			}
			if h.drop > 0 && count > h.drop || w.settle(link, sub, number, open, rnd) != nil {
				return
			}
			open = open[:0]
		}
	}
}

// settle acknowledges a list, one way or the other.
func (w *load) settle(link *link, sub string, number int, list []delivery, rnd *rand.Rand) error {
	if len(list) == 0 {
		return nil
	}
	ids, seqs := make([]string, len(list)), make([]uint64, len(list))
	for i, d := range list {
		ids[i], seqs[i] = d.ID, d.Seq
	}
	w.l.settle(sub, ids)
	if rnd.IntN(2) == 0 {
		return link.send(map[string]any{"ack": map[string]any{"sub": number, "upto": seqs[len(seqs)-1]}})
	}
	return link.send(map[string]any{"ack": map[string]any{"sub": number, "seqs": seqs}})
}
