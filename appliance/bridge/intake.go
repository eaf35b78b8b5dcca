package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/courier"
	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
)

const (
	intakeRoom  = 256       // messages that wait for the disk …
	intakeBytes = 512 << 10 // … and bytes of one frame, about
)

// intake stores what one connection brings.
type intake struct {
	b  *Bridge
	e  *Epoch
	ch chan Incoming
}

func newIntake(e *Epoch, b *Bridge) *intake {
	return &intake{b: b, e: e, ch: make(chan Incoming, intakeRoom)}
}

// Take implements [Inlet]. Behind one that was let go none is taken: the position of a later message would move over it.
func (t *intake) Take(in Incoming) {
	if t.e.ctx.Err() != nil {
		return
	}
	select {
	case t.ch <- in:
	case <-t.e.ctx.Done():
	}
}

// Position implements [Inlet].
func (t *intake) Position(key uint32) []byte {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	return t.b.positions[key]
}

// run stores until the connection is given up.
func (t *intake) run(ctx context.Context) error {
	for {
		select {
		case in := <-t.ch:
			if err := t.store(t.collect(in)); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// collect takes what else has come already.
func (t *intake) collect(first Incoming) []Incoming {
	batch, bytes := []Incoming{first}, len(first.Body)
	for len(batch) < intakeRoom && bytes < intakeBytes {
		select {
		case in := <-t.ch:
			batch = append(batch, in)
			bytes += len(in.Body)
		default:
			return batch
		}
	}
	return batch
}

// frame is what of a batch is to be stored.
type frame struct {
	ms        []*message.Message
	ids       []uint64
	positions map[uint32][]byte
	answers   []error // of the batch

	looped, repeated, refused int64
}

// store makes a batch durable and answers it; an error ends the connection, or it was given up before. The messages
// are stored in one frame or not at all, so that a position is never ahead of a message in front of it.
func (t *intake) store(batch []Incoming) error {
	b := t.b
	for i := range batch {
		if !batch[i].Skip {
			b.received(len(batch[i].Body))
		}
	}
	var f frame
	if !t.patiently(func() (err error) {
		f, err = t.sort(batch)
		return err
	}) {
		return t.e.ctx.Err()
	}
	notes := b.seen.add(f.ids)
	for key, value := range f.positions {
		notes = append(notes, courier.Note{Key: key, Value: value})
	}
	if len(f.ms)+len(notes) > 0 && !t.patiently(func() error { return b.o.Home.Store(copies(f.ms), notes) }) {
		b.seen = nil // some of it is not in the log: the next connection reads it again
		return t.e.ctx.Err()
	}
	b.stored(&f)
	for i := range batch {
		if batch[i].Done == nil {
			continue
		}
		if err := batch[i].Done(f.answers[i]); err != nil {
			return fmt.Errorf("acknowledge what came: %w", err)
		}
	}
	return nil
}

// patiently tries until the storage takes it; false when the connection was given up before.
func (t *intake) patiently(fn func() error) bool {
	wait := delivery.Backoff{Base: 100 * time.Millisecond, Max: 5 * time.Second}
	for fails := 1; ; fails++ {
		err := fn()
		if err == nil {
			return true
		}
		t.b.note(fmt.Errorf("what came cannot be stored, so it is not acknowledged: %w", err))
		timer := time.NewTimer(wait.Delay(fails))
		select {
		case <-timer.C:
		case <-t.e.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// copies leaves the originals as they are: the log owns what it is given, and may refuse it.
func copies(ms []*message.Message) []*message.Message {
	out := make([]*message.Message, len(ms))
	for i, m := range ms {
		c := *m
		out[i] = &c
	}
	return out
}

// sort maps and checks a batch. What is repeated or came in a loop is not stored; its position is. What is refused
// is stored as it came on the bridge's own topic, with the reason. An error is the storage's.
func (t *intake) sort(batch []Incoming) (frame, error) {
	b := t.b
	f := frame{positions: make(map[uint32][]byte), answers: make([]error, len(batch))}
	again := make(map[uint64]bool)
	for i := range batch {
		in := &batch[i]
		if in.Skip {
			f.positions[in.Position.Key] = in.Position.Value
			continue
		}
		m, key, err := t.read(in)
		if storageRefuses(err) {
			return f, err
		}
		if len(in.Position.Value) > 0 {
			f.positions[in.Position.Key], key = in.Position.Value, ""
		}
		id := idOf(key)
		switch {
		case errors.Is(err, mapping.ErrLoop):
			f.looped++
		case key != "" && (b.seen.known[id] || again[id]):
			f.repeated++
		case err != nil:
			f.answers[i] = err
			f.refused++
			f.ms = append(f.ms, b.refusal(&in.Wire, err))
		default:
			f.ms = append(f.ms, m)
			if key != "" {
				again[id] = true
				f.ids = append(f.ids, id)
			}
		}
	}
	return f, nil
}

// read maps one message and asks whether it may be published.
func (t *intake) read(in *Incoming) (m *message.Message, key string, err error) {
	if in.Bad != nil {
		return nil, "", in.Bad
	}
	if m, key, err = t.b.down.Decode(&in.Wire); err != nil {
		return nil, "", err
	}
	return m, key, t.b.o.Home.Admit(m)
}

// refusal is what is kept of a message that the gateway does not take.
func (b *Bridge) refusal(w *Wire, why error) *message.Message {
	m := message.New(RefusedTopic(b.cfg.Name), w.Body[:min(len(w.Body), message.MaxPayload)])
	m.Properties = []message.Property{{Key: "reason", Value: words(why)}, {Key: "address", Value: strings.ToValidUTF8(w.Address[:min(len(w.Address), message.MaxAttributeBytes)], "?")}}
	if m.ContentType = w.ContentType; m.Check() != nil {
		m.ContentType = ""
	}
	return m
}

// RefusedTopic is where messages from upstream stay that the gateway does not take: on an unknown device's inbox,
// on a topic that the bridge may not publish to, with what cannot be read.
func RefusedTopic(bridge string) message.Topic {
	return message.Topic("$edge/bridge/" + bridge + "/refused")
}

func storageRefuses(err error) bool {
	p := message.ProblemOf(err)
	if p == nil {
		return false
	}
	switch p.Code {
	case message.CodeStorageFull, message.CodeStorageFailed, message.CodeUnavailable:
		return true
	}
	return false
}
