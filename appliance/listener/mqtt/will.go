package mqtt

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// will is what a client leaves for its own end (5.0 §3.1.2.5).
type will struct {
	message *message.Message
	delay   time.Duration
	token   string // of the will that is kept for the end of the appliance itself; "" when it is not
}

// keptForm is a will as it is kept: JSON.
type keptForm struct {
	Delay   int64  `json:"delay,omitempty"` // seconds, at most the session's expiry
	Publish []byte `json:"publish"`         // a PUBLISH of 5.0
}

// form encodes a will whose session lives on for so long.
func (w *will) form(expiry time.Duration) ([]byte, error) {
	m := w.message
	pub := packet.Publish{Retain: m.Retain, QoS: byte(m.QoS), ID: 1, Topic: string(m.Topic), Shared: sharedProps(courier.NewItem(m))}
	if m.TTL > 0 {
		pub.HasExpiry, pub.MessageExpiry = true, uint32(m.TTL/time.Second)
	}
	pub.Payload = m.Payload // counts in the head
	return json.Marshal(keptForm{Delay: int64(w.wait(expiry) / time.Second), Publish: append(pub.AppendHead(nil, packet.V5), m.Payload...)})
}

// readForm is the opposite of form.
func readForm(client string, b []byte) (*will, error) {
	var k keptForm
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("decode will: %w", err)
	}
	t, flags, body, head, err := packet.ReadHeader(k.Publish)
	if err == nil && (t != packet.PUBLISH || len(k.Publish) != head+body) {
		err = errors.New("no PUBLISH")
	}
	var p packet.Packet
	if err == nil {
		err = p.Decode(packet.V5, t, flags, k.Publish[head:])
	}
	if err != nil {
		return nil, fmt.Errorf("decode will: %w", err)
	}
	delay := time.Duration(min(max(k.Delay, 0), math.MaxUint32)) * time.Second
	return &will{message: newMessage(string(p.Topic), client, &p), delay: delay}, nil
}

// wait is how long the will waits for its client to come back; not longer than the session
// [MQTT-3.1.3-9].
func (w *will) wait(expiry time.Duration) time.Duration {
	if expiry == noExpiry {
		return w.delay
	}
	return min(w.delay, expiry)
}

// readWill takes the will out of a CONNECT; nil when there is none. A will that the client may not
// publish refuses the connection, because later nobody could be told.
func (s *session) readWill(p *packet.Packet, g *auth.Grant) (*will, *message.Problem) {
	if p.Will == nil {
		return nil, nil
	}
	topic, err := message.ParseTopic(string(p.Will.Topic))
	if err != nil {
		return nil, message.ProblemOf(err)
	}
	m := message.New(topic, bytes.Clone(p.Will.Payload))
	m.QoS, m.Retain, m.Client = message.QoS(p.Will.QoS), p.Will.Retain, s.client
	m.Volatile = m.QoS == message.AtMostOnce && !m.Retain && !s.srv.owed(topic)
	takeProps(m, &p.Will.Props)
	if ct := m.ContentType; ct != "" && codec.CanDecode(ct) {
		if err := unwrap(m); err != nil {
			return nil, s.problemOf(err, "read the will")
		}
	}
	if err := m.Check(); err != nil {
		return nil, s.problemOf(err, "read the will")
	}
	if !g.MayPublish(topic) {
		return nil, message.Problemf(message.CodeForbidden, "%s may not publish its will to %.200q", g.Principal(), string(topic))
	}
	return &will{message: m, delay: time.Duration(p.Will.Props.WillDelay) * time.Second}, nil
}

// willRoom holds the wills of clients that are gone while their delays run.
type willRoom struct {
	mu      sync.Mutex
	pending map[string]*pendingWill // by principal and client id
	flying  int                     // calls into the log that are not answered
	idle    chan struct{}           // made by drain; closed when flying is 0
}

type pendingWill struct {
	timer  *time.Timer
	grant  *auth.Grant
	will   *will
	expiry time.Duration // of its session
}

// inherit takes over what the client's will of an earlier connection left, and keeps the new one. A will
// that cannot be stored is kept in memory only: a full disk must not keep a client from connecting. One
// of QoS 0 that is not retained is not stored: after a start nobody is there to get it.
func (s *session) inherit(w *will, clean bool) {
	p := s.srv.wills.take(s.key)
	var form []byte
	if w != nil && !w.message.Volatile {
		var err error
		if form, err = w.form(s.expiry); err != nil {
			s.srv.o.Log.Error("a will could not be encoded", "client", s.client, "error", err)
		}
	}
	switch {
	case p == nil:
	case clean: // the session ended, so its will is due (5.0 §3.1.2.5)
		s.srv.wills.send(s.srv, p)
	case p.will.token == "": // the client is back in time [MQTT-3.1.3-9]
	case form == nil:
		s.srv.wills.end(s.srv, p)
	default:
		if old, err := p.will.form(p.expiry); err == nil && bytes.Equal(old, form) {
			w.token = p.will.token // it stays as it is stored
		}
	}
	s.will = w
	if form == nil || w.token != "" {
		return
	}
	token := rand.Text()
	ctx, cancel := s.srv.request()
	defer cancel()
	err := s.srv.o.Wills.KeepWill(ctx, s.grant, courier.KeptWill{Principal: s.grant.Principal(), Client: s.client, Token: token, Body: form})
	if err != nil {
		s.srv.o.Log.Warn("a will could not be stored; the end of the appliance would lose it", "client", s.client, "error", err)
		return
	}
	w.token = token
}

// renounce takes the will back: the client said DISCONNECT, or was not connected at all.
func (s *session) renounce() {
	if w := s.will; w != nil && w.token != "" {
		s.srv.wills.end(s.srv, &pendingWill{grant: s.grant, will: w, expiry: s.expiry})
	}
	s.will = nil
}

// left publishes the will of a session that ended without the client's DISCONNECT, now or after its
// delay, but not later than the session's own end [MQTT-3.1.2-8], [MQTT-3.1.3-9].
func (r *willRoom) left(s *session) {
	if s.phase == fresh {
		s.renounce()
	}
	if s.will == nil {
		return
	}
	p := &pendingWill{grant: s.grant.AfterEnd(), will: s.will, expiry: s.expiry}
	delay := s.will.wait(s.expiry)
	if delay <= 0 || s.srv.stopped() {
		r.send(s.srv, p)
		return
	}
	r.put(s.srv, s.key, p, delay)
}

// put has the will published after the delay unless it is taken before.
func (r *willRoom) put(srv *Server, key string, p *pendingWill, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = make(map[string]*pendingWill)
	}
	r.pending[key] = p
	p.timer = time.AfterFunc(delay, func() {
		r.mu.Lock()
		mine := r.pending[key] == p
		if mine {
			delete(r.pending, key)
			r.flying++ // or drain would not see it
		}
		r.mu.Unlock()
		if mine {
			r.send(srv, p)
			r.landed()
		}
	})
}

// RestoreWills publishes the wills of clients that were connected when the appliance ended without
// stopping (5.0 §3.1.2.5), each after its delay, during which its client may come back. Call it before
// [Server.Serve].
func (s *Server) RestoreWills() {
	s.o.Wills.EachWill(func(g *auth.Grant, k courier.KeptWill) {
		w, err := readForm(k.Client, k.Body)
		if err != nil {
			s.o.Log.Error("a stored will is unreadable; it is not published", "client", k.Client, "error", err)
			s.o.Wills.EndWill(g, k.Client, k.Token, func(error) {}) // if that fails, the next start says so again
			return
		}
		w.token = k.Token
		p := &pendingWill{grant: g, will: w, expiry: noExpiry}
		if w.delay <= 0 {
			s.wills.send(s, p)
			return
		}
		s.wills.put(s, g.Principal()+"\x00"+k.Client, p, w.delay)
	})
}

// take removes the will that waits for the client, if there is one.
func (r *willRoom) take(key string) *pendingWill {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pending[key]
	if p != nil {
		p.timer.Stop()
		delete(r.pending, key)
	}
	return p
}

// send publishes the will.
func (r *willRoom) send(srv *Server, p *pendingWill) {
	r.mu.Lock()
	r.flying++
	r.mu.Unlock()
	m, token := p.will.message, p.will.token
	done := func(_ message.StoredAs, err error) {
		defer r.landed()
		if err == nil {
			return
		}
		srv.count.refuses.Add(1)
		if unaddressed(err) && !m.Volatile { // nobody is left to be told
			r.bury(srv, p)
			return
		}
		srv.o.Log.Warn("a will could not be published", "client", m.Client, "topic", m.Topic, "error", err)
		if problem := message.ProblemOf(err); token != "" && problem != nil && !later(problem.Code) {
			r.end(srv, p) // or each start would try again
		}
	}
	if token == "" {
		srv.o.Publisher.PublishAsync(p.grant, m, done)
		return
	}
	srv.o.Wills.PublishWill(p.grant, m, token, done)
}

// bury keeps a will as a dead letter. A crash in between may keep it twice.
func (r *willRoom) bury(srv *Server, p *pendingWill) {
	r.mu.Lock()
	r.flying++
	r.mu.Unlock()
	m := p.will.message
	srv.o.Publisher.Bury(p.grant, m, m.Client, nil, func(_ message.StoredAs, err error) {
		defer r.landed()
		if err != nil {
			srv.o.Log.Warn("a will could not be kept as a dead letter", "client", m.Client, "topic", m.Topic, "error", err)
		} else if p.will.token != "" {
			r.end(srv, p)
		}
	})
}

// later reports whether a publish that was refused so may be stored at another time.
func later(code string) bool {
	switch code {
	case message.CodeStorageFull, message.CodeStorageFailed, message.CodeQuota, message.CodeUnavailable, message.CodeTimeout:
		return true
	}
	return false
}

// end has the log know that a kept will is not to be published any more.
func (r *willRoom) end(srv *Server, p *pendingWill) {
	r.mu.Lock()
	r.flying++
	r.mu.Unlock()
	client := p.will.message.Client
	srv.o.Wills.EndWill(p.grant, client, p.will.token, func(err error) {
		if err != nil {
			srv.o.Log.Warn("the end of a will could not be stored; a crash of the appliance would publish it", "client", client, "error", err)
		}
		r.landed()
	})
}

// landed counts one call into the log that was answered.
func (r *willRoom) landed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flying--; r.flying == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// drain publishes what waits and returns when all of it is stored: the server is stopping.
func (r *willRoom) drain(ctx context.Context, srv *Server) error {
	r.mu.Lock()
	keys := make([]string, 0, len(r.pending))
	for key := range r.pending {
		keys = append(keys, key)
	}
	r.mu.Unlock()
	for _, key := range keys {
		if p := r.take(key); p != nil {
			r.send(srv, p)
		}
	}
	r.mu.Lock()
	if r.flying == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
