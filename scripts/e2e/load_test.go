package e2e

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

// load is a set of clients that use one gateway while it is killed: publishers and receivers that
// go on by themselves when it comes back, and write down what they know.
type load struct {
	t     *testing.T
	g     *gateway
	l     *ledger
	stop  chan struct{} // closed: publishers end
	quit  chan struct{} // closed: receivers end
	pubs  sync.WaitGroup
	recvs sync.WaitGroup
}

func stopped(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// text makes payloads of several kinds: text, JSON and bytes, up to 400 bytes.
func text(name string, n int, rnd *rand.Rand) (payload, contentType string) {
	head := fmt.Sprintf("%s-%06d", name, n)
	fill := strings.Repeat("x", rnd.IntN(400))
	switch n % 3 {
	case 0:
		return head + " 你好 " + fill, "text/plain; charset=utf-8"
	case 1:
		b, _ := json.Marshal(map[string]any{"n": head, "fill": fill})
		return string(b), "application/json"
	default:
		return head + "\x00\xff\xfe" + fill, "application/octet-stream"
	}
}

// publishHTTP publishes one message after the other to one topic. With keyed, a message whose answer
// was lost is published again under its idempotency key until it is acknowledged; else it is
// left in doubt.
func (w *load) publishHTTP(name, topic, tok string, keyed bool, seed uint64) {
	w.pubs.Go(func() {
		a, rnd := w.g.api(tok), rand.New(rand.NewPCG(seed, 1))
		for n := 0; !stopped(w.stop); n++ {
			payload, ct := text(name, n, rnd)
			headers := []string{"Content-Type", ct}
			if keyed {
				headers = append(headers, "Idempotency-Key", fmt.Sprintf("%s-%d", name, n))
			}
			w.l.try(topic, payload)
			for {
				s, again := w.once(a, topic, payload, headers)
				if s.ID != "" {
					w.l.ack(topic, payload, s)
				}
				if s.ID != "" || !keyed || !again {
					break
				}
				time.Sleep(2 * time.Millisecond)
			}
		}
	})
}

// once tries to publish; again says that trying again may help.
func (w *load) once(a *api, topic, payload string, headers []string) (s stored, again bool) {
	res, err := a.do(http.MethodPost, "/v1/publish/"+topic, []byte(payload), headers...)
	switch {
	case err != nil:
		time.Sleep(2 * time.Millisecond) // it is down; the answer is in doubt
		return stored{}, true
	case res.status == http.StatusServiceUnavailable || res.status == http.StatusConflict:
		return stored{}, true
	case res.status != http.StatusCreated:
		w.t.Errorf("publish to %s: status %d: %.300s", topic, res.status, res.body)
		return stored{}, false
	}
	if err := json.Unmarshal(res.body, &s); err != nil || s.ID == "" {
		w.t.Errorf("publish to %s: answer %.300q: %v", topic, res.body, err)
	}
	return s, false
}

// publishWS publishes over one WebSocket, up to depth messages ahead of their answers. What is in
// doubt when the connection breaks is left so.
func (w *load) publishWS(name, topic, tok string, depth int, seed uint64) {
	w.pubs.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 2))
		for n := 0; !stopped(w.stop); {
			link, err := w.g.dial("", tok)
			if err != nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			n = w.pipeline(link, name, topic, depth, n, rnd)
			link.close()
		}
	})
}

func (w *load) pipeline(link *link, name, topic string, depth, n int, rnd *rand.Rand) int {
	waiting := map[int64]string{}
	for {
		for len(waiting) < depth && !stopped(w.stop) {
			n++
			payload := fmt.Sprintf("%s-%06d %s", name, n, strings.Repeat("w", rnd.IntN(100)))
			w.l.try(topic, payload)
			waiting[int64(n)] = payload
			if link.send(map[string]any{"id": n, "pub": map[string]any{"topic": topic, "text": payload, "ct": "text/plain"}}) != nil {
				return n
			}
		}
		if len(waiting) == 0 {
			return n
		}
		f, err := link.read(10 * time.Second)
		if err != nil {
			return n
		}
		if payload, ok := waiting[f.ID]; ok && f.OK != nil {
			w.l.ack(topic, payload, stored{ID: f.OK.ID, Seq: f.OK.Seq})
			delete(waiting, f.ID)
		} else if f.Error != nil && f.Error.Code != "unavailable" && f.Error.Code != "storage-failed" {
			w.t.Errorf("pub to %s: %s: %s", topic, f.Error.Code, f.Error.Detail)
			return n
		}
	}
}

// habit is how a receiver behaves.
type habit struct {
	every int // acknowledges each so many messages
	upTo  bool
	nack  int // refuses one in so many, to take it later; 0 none
	drop  int // drops the connection after so many messages, some unacknowledged; 0 never
}

// receive keeps a client connected that writes down what comes and acknowledges it. With topic it is a key's
// durable subscription, else a device's inbox.
func (w *load) receive(sub, device, tok string, topic string, h habit, seed uint64) {
	w.recvs.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 3))
		for !stopped(w.quit) {
			link, err := w.g.dial(device, tok)
			if err != nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			if topic != "" {
				err = link.send(map[string]any{"id": 2, "sub": map[string]any{"topic": topic, "name": "jobs"}})
			}
			if err == nil {
				w.serve(link, sub, h, rnd)
			}
			link.close()
		}
	})
}

func (w *load) serve(link *link, sub string, h habit, rnd *rand.Rand) {
	number, count := 0, 0
	var open []delivery
	for !stopped(w.quit) {
		f, err := link.read(300 * time.Millisecond)
		switch {
		case err != nil: // quiet, or cut: what was received is acknowledged if that is still possible
			if len(open) > 0 {
				_ = w.settle(link, sub, number, open, h)
			}
			return
		case f.OK != nil:
			number = f.OK.Sub
		case f.Error != nil:
			w.t.Errorf("%s was told %s: %s", sub, f.Error.Code, f.Error.Detail)
			return
		case f.Msg == nil:
			continue
		default:
			w.l.receive(sub, *f.Msg)
			count++
			if h.nack > 0 && rnd.IntN(h.nack) == 0 {
				link.send(map[string]any{"nack": map[string]any{"sub": number, "seq": f.Msg.Seq, "delay_ms": 20, "reason": "busy"}})
				continue
			}
			if open = append(open, *f.Msg); len(open) >= h.every {
				if h.drop > 0 && count > h.drop {
					return
				}
				if w.settle(link, sub, number, open, h) != nil {
					return
				}
				open = open[:0]
			}
		}
	}
}

// settle acknowledges a list.
func (w *load) settle(link *link, sub string, number int, list []delivery, h habit) error {
	w.l.settle(sub, list)
	if h.upTo {
		return link.send(map[string]any{"ack": map[string]any{"sub": number, "upto": list[len(list)-1].Seq}})
	}
	seqs := make([]uint64, len(list))
	for i, d := range list {
		seqs[i] = d.Seq
	}
	return link.send(map[string]any{"ack": map[string]any{"sub": number, "seqs": seqs}})
}
