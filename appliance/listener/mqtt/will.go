package mqtt

import (
	"bytes"
	"context"
	"sync"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// will is what a client leaves for its own end (5.0 §3.1.2.5).
type will struct {
	message *message.Message
	delay   time.Duration
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
	m.Volatile = m.QoS == message.AtMostOnce && !m.Retain
	takeProps(m, &p.Will.Props)
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
	flying  int                     // being stored
	idle    chan struct{}           // made by drain; closed when flying is 0
}

type pendingWill struct {
	timer   *time.Timer
	grant   *auth.Grant
	message *message.Message
}

// left publishes the will of a session that ended without the client's DISCONNECT, now or after its
// delay, but not later than the session's own end [MQTT-3.1.2-8], [MQTT-3.1.3-9].
func (r *willRoom) left(s *session) {
	w := s.will
	if w == nil || s.phase == fresh {
		return
	}
	delay := w.delay
	if s.expiry != noExpiry {
		delay = min(delay, s.expiry)
	}
	p := &pendingWill{grant: s.grant, message: w.message}
	if delay <= 0 || s.srv.stopped() {
		r.send(s.srv, p)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = make(map[string]*pendingWill)
	}
	r.pending[s.key] = p
	p.timer = time.AfterFunc(delay, func() {
		r.mu.Lock()
		mine := r.pending[s.key] == p
		if mine {
			delete(r.pending, s.key)
		}
		r.mu.Unlock()
		if mine {
			r.send(s.srv, p)
		}
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

// cancel forgets the will: its client is back in time.
func (r *willRoom) cancel(key string) { r.take(key) }

// publish sends the will before its delay is over: its session has ended.
func (r *willRoom) publish(srv *Server, key string) {
	if p := r.take(key); p != nil {
		r.send(srv, p)
	}
}

func (r *willRoom) send(srv *Server, p *pendingWill) {
	r.mu.Lock()
	r.flying++
	r.mu.Unlock()
	srv.o.Publisher.PublishAsync(p.grant, p.message, func(_ message.StoredAs, err error) {
		if err != nil {
			srv.count.refuses.Add(1)
			srv.o.Log.Warn("a will could not be published", "client", p.message.Client, "topic", p.message.Topic, "error", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.flying--; r.flying == 0 && r.idle != nil {
			close(r.idle)
			r.idle = nil
		}
	})
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
		r.publish(srv, key)
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
