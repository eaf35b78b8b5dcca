package courier

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// Note is something that a protocol must still know after a crash, kept with a durable
// subscription: see [outbox.Note].
type Note = outbox.Note

// remember applies changes of notes.
func (s *subscription) remember(list []Note) {
	for _, n := range list {
		if len(n.Value) == 0 {
			delete(s.notes, n.Key)
			continue
		}
		if s.notes == nil {
			s.notes = make(map[uint32][]byte)
		}
		s.notes[n.Key] = n.Value
	}
}

func (s *subscription) decodeNotes(b []byte) ([]byte, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, errState
	}
	b = b[n:]
	for range count {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errState
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errState
		}
		s.remember([]Note{{Key: uint32(key), Value: append([]byte(nil), b[n:n+int(size)]...)}})
		b = b[n+int(size):]
	}
	return b, nil
}

// SessionState is what is kept of a client's session.
type SessionState struct {
	Meta   json.RawMessage
	Notes  map[uint32][]byte
	Linked bool // a link holds it now
}

// SessionName is the public and unique name of a client's session.
func SessionName(principal, client string) string { return principal + "/mqtt/" + client }

// SharedName is the public and unique name of a group of subscribers that share messages.
func SharedName(group string, f message.Filter) string { return "$share/" + group + "/" + string(f) }

// Session returns what is kept under the name; ok is false when there is nothing, or when its time is
// over and it is about to be removed.
func (c *Courier) Session(ctx context.Context, name string) (st SessionState, ok bool, err error) {
	s, id, err := c.find(name)
	if err != nil {
		return st, false, nil //nolint:nilerr // not there is an answer
	}
	err = s.do(ctx, func() {
		if sub := s.subs[id]; sub != nil && !s.forgotten(sub) {
			st, ok = SessionState{Meta: sub.spec.Meta, Notes: maps.Clone(sub.notes), Linked: len(sub.links) > 0}, true
		}
	})
	return st, ok, err
}

// EnsureSession makes or changes the subscription of a session. A durable one is on stable storage
// when it returns; another ends with its link. The retained messages that show selects are owed
// besides. What changes nothing writes nothing: clients say the same again whenever they connect.
func (c *Courier) EnsureSession(ctx context.Context, spec Spec, show []message.Filter) error {
	defer c.lockName(spec.Name)()
	ch := &outbox.Change{Op: outbox.OpPut, Shown: len(show) > 0}
	s, id, err := c.find(spec.Name)
	if err == nil {
		ch.Sub = id
	}
	if ch.Spec, err = json.Marshal(&spec); err != nil {
		return fmt.Errorf("encode subscription %s: %w", spec.Name, err)
	}
	if len(show) > 0 {
		defer c.ob.Hold()()
		loose := false
		if ch.Sub != 0 { // what the client acknowledged before it asked is settled, so that it can be owed again
			if err := s.do(ctx, func() { loose = s.subs[id] != nil && s.subs[id].loose > 0 }); err != nil {
				return err
			}
		}
		if err := c.show(ctx, ch, show); err != nil {
			return err
		}
		if loose && ch.Debts != nil { // or a replay would settle it once more, behind this change
			if err := c.ob.SettleNow(); err != nil {
				return err
			}
		}
	}
	if ch.Sub != 0 && ch.Debts == nil {
		if same, err := s.has(ctx, id, ch.Spec); err != nil || same {
			return err
		}
	}
	if ch.Sub&liveID != 0 {
		return s.do(ctx, func() { s.put(id, spec, ch, s.applied+1) })
	}
	if _, err := c.ob.Change(context.WithoutCancel(ctx), ch); err != nil {
		return err
	}
	return c.shardOf(spec.Owner).do(ctx, func() {})
}

// has reports whether the subscription is as the spec says already.
func (s *shard) has(ctx context.Context, id uint64, spec json.RawMessage) (same bool, err error) {
	var have Spec
	if err := s.do(ctx, func() {
		if sub := s.subs[id]; sub != nil {
			have = sub.spec
		}
	}); err != nil {
		return false, err
	}
	b, err := json.Marshal(&have) // both forms come from Marshal, which also makes Meta uniform
	return bytes.Equal(b, spec), err
}

// OpenLive makes a subscription that is not stored and ends with its link, under a name by which
// [Courier.EnsureSession] can change it.
func (c *Courier) OpenLive(ctx context.Context, spec Spec, link Link, o AttachOptions) (Attachment, error) {
	defer c.lockName(spec.Name)()
	n := c.lives.Add(1)
	s := c.shardOf(spec.Owner)
	a := &attachment{s: s, link: link, o: o}
	err := s.do(ctx, func() {
		s.put(liveID|n, spec, &outbox.Change{}, s.applied+1)
		a.sub = s.subs[liveID|n]
		s.attach(a)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// AttachShared makes the link one of those that share a durable subscription.
func (c *Courier) AttachShared(ctx context.Context, spec Spec, link Link, o AttachOptions) (Member, error) {
	spec.Kind = Shared
	if _, err := c.Ensure(ctx, spec); err != nil {
		return nil, err
	}
	return c.hold(ctx, spec.Name, link, o)
}

// Note makes notes of a durable subscription durable. done runs on the log's committer after the
// fsync, or at once, and must not block. A note that follows a [Courier.Session] is no earlier in the log than the settlement
// of what was acknowledged before that.
func (c *Courier) Note(name string, list []Note, done func(error)) {
	_, id, err := c.find(name)
	if err != nil {
		done(err)
		return
	}
	c.ob.Note(&outbox.Notes{Sub: id, List: list}, done)
}

// PublishNoted stores a message and notes of a durable subscription in one frame: both or neither.
func (c *Courier) PublishNoted(m *message.Message, name string, list []Note, done func(message.StoredAs, error)) {
	_, id, err := c.find(name)
	if err != nil {
		done(message.StoredAs{}, err)
		return
	}
	c.ob.PublishNoted(m, &outbox.Notes{Sub: id, List: list}, done)
}

// PublishAllNoted stores messages and notes of a durable subscription in one frame, all or none, and returns after
// the fsync. There may be no messages. It cannot be given up halfway: the log always answers.
func (c *Courier) PublishAllNoted(ms []*message.Message, name string, list []Note) error {
	_, id, err := c.find(name)
	if err != nil {
		return err
	}
	return c.ob.PublishAllNoted(ms, &outbox.Notes{Sub: id, List: list})
}

// Retained returns the retained messages that the filter selects.
func (c *Courier) Retained(ctx context.Context, f message.Filter) ([]*message.Message, error) {
	defer c.ob.Hold()()
	set, failed := c.retained(ctx, []message.Filter{f})
	var out []*message.Message
	set.Each(0, ^uint64(0), func(first, last uint64) bool {
		for seq := first; seq <= last; seq++ {
			e, err := c.ob.Read(seq)
			switch {
			case outbox.Gone(err):
			case err != nil:
				failed = err
				return false
			case e.Kind == outbox.KindMessage && (!c.expired(e.Msg)):
				out = append(out, e.Msg)
			}
		}
		return true
	})
	return out, failed
}

// expired reports whether the message's own time to live is over.
func (c *Courier) expired(m *message.Message) bool {
	at := c.ob.Expiry(m)
	return at != 0 && at <= c.ob.Age()
}

// forgotten reports whether a session is over because nobody came back to it in time.
func (s *shard) forgotten(sub *subscription) bool {
	if sub.spec.Expiry == 0 || sub.connected() || sub.spec.Kind != Session && sub.spec.Kind != Shared {
		return false
	}
	return s.c.ob.Since(sub.used) > sub.spec.Expiry
}

// SessionSpec is what an MQTT session subscribes. DESIGN §6: one subscription with many filters.
type SessionSpec struct {
	Client  string           // the client id; with the principal it names the session
	Filters []message.Filter // of QoS 1 and 2: what matches is owed
	Passing []message.Filter // of QoS 0: what matches is handed on while connected
	Expiry  time.Duration    // how long it outlives its link; 0: for ever
	Durable bool             // false: it ends with its link
	Meta    json.RawMessage  // the protocol's own
}
