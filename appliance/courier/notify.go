package courier

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// watchers wait for the outcomes of single messages.
type watchers struct {
	n  atomic.Int64 // len(by), to spare the lock when nobody watches
	mu sync.Mutex   // guards by
	by map[uint64][]chan struct{}
}

func (w *watchers) add(seq uint64) chan struct{} {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by[seq] = append(w.by[seq], ch)
	w.n.Store(int64(len(w.by)))
	return ch
}

func (w *watchers) remove(seq uint64, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.by[seq]
	for i, c := range list {
		if c == ch {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(w.by, seq)
	} else {
		w.by[seq] = list
	}
	w.n.Store(int64(len(w.by)))
}

func (w *watchers) tell(seq uint64) {
	if w.n.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.by[seq] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// news wakes those who wait for the log to grow.
type news struct {
	mu      sync.Mutex // guards ready and waiting
	ready   chan struct{}
	waiting bool
}

func (n *news) channel() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting = true
	return n.ready
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting {
		close(n.ready)
		n.ready, n.waiting = make(chan struct{}), false
	}
}

// announce tells whoever asked how a debt ended. item is the message if it was on its way with a
// receipt asked for, id the number of its id as far as it is known. It runs on the shard and must not block.
func (c *Courier) announce(sub *subscription, t outbox.Settlement, item *Item, id uint64) {
	if item == nil && t.State != message.Delivered && t.State != message.Sent {
		// It ended without being sent: the message itself says whether a receipt was asked for.
		if e, err := c.ob.Read(t.Seq); err == nil && e.Kind == outbox.KindMessage {
			item = NewItem(e.Msg)
		}
	}
	if item != nil {
		id = item.Msg.ID.Seq
		if item.Msg.Receipt != message.NoReceipt {
			c.finals.receipt(message.Receipt{
				ID: item.Msg.ID, Topic: item.Msg.Topic, Subscription: sub.spec.Name, State: t.State, Reason: t.Reason,
				Attempt: t.Attempts, At: c.ob.Wall(),
			}, item.Msg)
		}
	}
	c.watch.tell(id)
	if id != t.Seq {
		c.watch.tell(t.Seq)
	}
}

// finals sends receipts: each outcome as a volatile message, and one stored summary once nobody owes
// a message any more whose publisher asked for it.
type finals struct {
	c      *Courier
	queue  chan any        // message.Receipt with its publisher, or a sequence number to look at
	open   atomic.Int64    // len(wanted), to spare the lock
	mu     sync.Mutex      // guards wanted
	wanted map[uint64]bool // true: it is to be looked at again, whatever happens
	missed atomic.Int64    // receipts that found the queue full
}

type announced struct {
	message.Receipt
	of *message.Message
}

// receiptQueue bounds receipts that wait to be sent; more are dropped and counted.
const receiptQueue = 1024

func (f *finals) init(c *Courier) {
	f.c, f.queue, f.wanted = c, make(chan any, receiptQueue), make(map[uint64]bool)
}

func (f *finals) receipt(r message.Receipt, of *message.Message) {
	select {
	case f.queue <- announced{r, of}:
	default:
		f.missed.Add(1)
		f.c.count.dropped.Add(1)
	}
}

// check has the message looked at: nobody may owe it any more.
func (f *finals) check(seq uint64) {
	f.mu.Lock()
	f.wanted[seq] = false
	f.open.Store(int64(len(f.wanted)))
	f.mu.Unlock()
	f.ended(seq)
}

// ended says that one debt of the message ended.
func (f *finals) ended(seq uint64) {
	if f.open.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if again, wanted := f.wanted[seq]; !wanted || again {
		return
	}
	select {
	case f.queue <- seq:
	default:
		f.wanted[seq] = true // the sweep looks
	}
}

func (f *finals) wants(seq uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, wanted := f.wanted[seq]
	return wanted
}

// later has the sweep look at a message again.
func (f *finals) later(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, wanted := f.wanted[seq]; wanted {
		f.wanted[seq] = true
	}
}

// finalSweep is how often the summaries are tried again that found the queue or the storage full.
const finalSweep = 10 * time.Second

func (f *finals) run() {
	sweep := time.NewTicker(finalSweep)
	defer sweep.Stop()
	for {
		select {
		case <-f.c.ctx.Done():
			return
		case v := <-f.queue:
			switch v := v.(type) {
			case announced:
				f.send(v)
			case *message.Message:
				f.volatile(v)
			case uint64:
				f.summarize(v)
			}
		case <-sweep.C:
			f.mu.Lock()
			seqs := make([]uint64, 0, len(f.wanted))
			for seq, again := range f.wanted {
				if again {
					f.wanted[seq] = false
					seqs = append(seqs, seq)
				}
			}
			f.mu.Unlock()
			for _, seq := range seqs {
				f.summarize(seq)
			}
		}
	}
}

// receiptJSON is a receipt as its topic carries it.
type receiptJSON struct {
	ID           string `json:"id"`
	Topic        string `json:"topic"`
	Subscription string `json:"subscription"`
	State        string `json:"state"`
	Reason       string `json:"reason,omitempty"`
	Attempt      int    `json:"attempt,omitempty"`
	At           string `json:"at,omitempty"`
}

func showReceipt(r *message.Receipt) receiptJSON {
	j := receiptJSON{
		ID: r.ID.String(), Topic: string(r.Topic), Subscription: r.Subscription, State: r.State.String(), Reason: r.Reason, Attempt: r.Attempt,
	}
	if !r.At.IsZero() {
		j.At = r.At.UTC().Format(time.RFC3339Nano)
	}
	return j
}

func (f *finals) send(a announced) {
	body, err := json.Marshal(showReceipt(&a.Receipt))
	if err != nil {
		return // plain strings always marshal
	}
	for _, m := range f.receipts(a.of, body, "each") {
		f.volatile(m)
	}
}

// receipts makes the messages that carry one receipt: for the publisher's receipt topic, and for the
// message's response topic with its correlation data, if the publisher itself might publish there and
// receive it: it must not reach through the appliance what its rules keep from it.
func (f *finals) receipts(of *message.Message, body []byte, mode string) []*message.Message {
	m := message.New(message.ReceiptTopic(of.From, of.ID), body)
	m.ContentType = "application/json"
	if may := f.c.o.MayAnswer; of.Response == "" || may == nil || !may(of.From, of.Response) {
		return []*message.Message{m}
	}
	answer := message.New(of.Response, body)
	answer.ContentType, answer.Correlation = m.ContentType, of.Correlation
	answer.Properties = []message.Property{{Key: "receipt", Value: mode}} // tells it from the answer itself
	return []*message.Message{m, answer}
}

func (f *finals) volatile(m *message.Message) {
	m.Volatile = true
	if f.c.Matches(m.Topic) > 0 {
		_, _ = f.c.Volatile(f.c.ctx, m) // fails only when everything stops
	}
}

// say announces something about the appliance on a $edge topic to whoever listens now. It never
// blocks; what finds the queue full is counted as dropped.
func (c *Courier) say(topic message.Topic, what any) {
	body, err := json.Marshal(what)
	if err != nil {
		return
	}
	m := message.New(topic, body)
	m.ContentType = "application/json"
	select {
	case c.finals.queue <- m:
	default:
		c.count.dropped.Add(1)
	}
}

// presence announces that a device came or went.
func (c *Courier) presence(sub *subscription, online bool, why string) {
	if sub.spec.Kind != Inbox {
		return
	}
	c.comings.add(sub.spec.Name, online, why, c.ob.Wall())
	what := struct {
		Online bool   `json:"online"`
		Reason string `json:"reason,omitempty"`
		At     string `json:"at,omitempty"`
	}{Online: online, Reason: why}
	if t := c.ob.Wall(); !t.IsZero() {
		what.At = t.UTC().Format(time.RFC3339)
	}
	c.say(message.Topic("$edge/"+sub.spec.Name+"/presence"), what)
}

// summarize stores the final receipt if nobody owes the message any more.
func (f *finals) summarize(seq uint64) {
	ctx, c := f.c.ctx, f.c
	if !f.wants(seq) {
		return // it is stored already
	}
	e, err := c.ob.Read(seq)
	if err != nil && !outbox.Gone(err) {
		f.later(seq)
		return
	}
	if err != nil || e.Kind != outbox.KindMessage {
		f.finished(ctx, seq, message.Lost)
		return
	}
	id := e.Msg.ID
	if owed, err := c.places(ctx, id, []uint64{seq}); err != nil || slices.ContainsFunc(owed, stillOwed) {
		return // the last of them brings it here again
	}
	t, err := c.Trace(ctx, id)
	if err != nil {
		f.later(seq)
		return
	}
	type summary struct {
		ID     string         `json:"id"`
		Event  string         `json:"event,omitempty"`  // the id that an event came with …
		Source string         `json:"source,omitempty"` // … and its source: who sent it knows it by these
		Topic  string         `json:"topic"`
		Final  bool           `json:"final"`
		Counts map[string]int `json:"counts"`
		Places []receiptJSON  `json:"places"`
	}
	out := summary{ID: id.String(), Event: e.Msg.Event.ID, Source: e.Msg.Event.Source, Topic: string(e.Msg.Topic), Final: true, Counts: map[string]int{}}
	for i := range t.Places {
		p := &t.Places[i]
		if stillOwed(*p) {
			return
		}
		out.Counts[p.State.String()]++
		if len(out.Places) < 1000 {
			out.Places = append(out.Places, showReceipt(p))
		}
	}
	body, err := json.Marshal(out)
	if err != nil {
		return
	}
	if _, err := c.ob.PublishAll(ctx, f.receipts(e.Msg, body, "final")); err != nil {
		f.later(seq)
		return
	}
	f.finished(ctx, seq, message.Delivered)
}

// stillOwed tells a debt from an end; "sent" is both.
func stillOwed(p message.Receipt) bool {
	return p.State == message.Waiting || p.State == message.Sent && p.Reason != ""
}

// finished lets go of a message whose summary is stored.
func (f *finals) finished(ctx context.Context, seq uint64, state message.State) {
	f.mu.Lock()
	delete(f.wanted, seq)
	f.open.Store(int64(len(f.wanted)))
	f.mu.Unlock()
	s, id, err := f.c.find(receiptsName)
	if err != nil {
		return
	}
	_ = s.do(ctx, func() { // fails only when everything stops; then the restart looks again
		if sub := s.subs[id]; sub != nil && sub.state.Owes(seq) {
			sub.state.Drop(seq)
			f.c.ob.Settle(outbox.Settlement{Sub: sub.id, Seq: seq, State: state, Attempts: 1})
		}
	})
}
