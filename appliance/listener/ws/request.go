package ws

import (
	"bytes"
	"context"
	"slices"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// object runs one object; false ends the session.
func (s *session) object(line []byte, r *request) bool {
	*r = request{seqs: r.seqs[:0]}
	err := r.decode(line)
	first := !s.first
	s.first = true
	switch p := message.ProblemOf(err); {
	case p != nil:
		s.fail(r.id, p)
		if p.Code == message.CodeBadJSON {
			s.malformed++
		}
		if s.malformed >= maxMalformed {
			return s.bye(codeProtocol, "too many malformed objects", 0)
		}
		if first && !s.greeted() {
			return s.bye(codeProtocol, "the first object is no hello", 0)
		}
		return true
	case r.verb == verbHello:
		return s.greet(r, first)
	}
	if !s.greeted() {
		if s.early == nil {
			s.fail(r.id, message.Problemf(message.CodeUnauthorized, "say hello first"))
			return s.bye(codeProtocol, "the first object is no hello", 0)
		}
		if !s.open(s.early, nil) {
			return false
		}
	}
	s.perform(r)
	return true
}

func (s *session) perform(r *request) {
	switch r.verb {
	case verbAck:
		s.ack(r)
	case verbNack:
		s.nack(r)
	case verbSub:
		s.subscribe(r)
	case verbUnsub:
		s.unsubscribe(r)
	case verbPub:
		s.publish(r)
	case verbAuth:
		s.renew(r)
	case verbPing:
		s.reply(appendPong(nil, r.id, r.ping))
	case noVerb, verbHello: // answered by object
	}
}

// greet answers hello. After an upgrade with credentials it may come without any, or with ones of
// the same principal.
func (s *session) greet(r *request, first bool) bool {
	if s.hello || !first {
		s.fail(r.id, message.Problemf(message.CodeBadRequest, "hello comes once, as the first object; auth renews a token"))
		return s.greeted() || s.bye(codeProtocol, "the first object is no hello", 0)
	}
	s.hello = true
	if s.greeted() && r.token == "" && (r.device == "" || s.principal() == auth.Device.String()+"/"+r.device) {
		s.reply(s.h.welcome(r.id, s.name))
		return true
	}
	g, p := s.authenticate(r.device, r.token)
	switch {
	case p != nil:
		return s.openFailed(r.id, p)
	case r.device != "" && g.Kind != auth.Device:
		return s.openFailed(r.id, message.Problemf(message.CodeUnauthorized, "%q is not a device; leave device out of hello", r.device))
	case !s.greeted():
		return s.open(g, r.id)
	case g.Principal() != s.principal():
		return s.openFailed(r.id, message.Problemf(message.CodeForbidden,
			"the request's credentials are those of %s; hello may not change that", s.principal()))
	}
	s.reply(s.h.welcome(r.id, s.name))
	return true
}

func (s *session) authenticate(name, token string) (*auth.Grant, *message.Problem) {
	ctx, cancel := context.WithTimeout(s.h.ctx, s.h.o.RequestTimeout)
	defer cancel()
	if s.early != nil && !s.welcomeNow {
		ctx = auth.WithGrant(ctx, s.early)
	}
	g, err := s.h.o.Authenticator.Authenticate(ctx, auth.Credentials{Name: name, Token: token, Shown: s.shown, Remote: s.remote, Via: "ws"})
	if err != nil {
		return nil, s.h.problem(err, "authenticate")
	}
	return g, nil
}

// renew takes a new token of the same principal before the old one ends.
func (s *session) renew(r *request) {
	s.mu.Lock()
	old := s.grant
	s.mu.Unlock()
	g, p := s.authenticate("", r.token)
	if p == nil && g.Principal() != old.Principal() {
		p = message.Problemf(message.CodeForbidden, "the token belongs to another principal; open a new connection for it")
	}
	if p != nil {
		s.fail(r.id, p)
		return
	}
	s.mu.Lock()
	s.grant = g
	s.mu.Unlock()
	s.done(r.id)
}

// done answers what has nothing else to tell, if an answer is wanted.
func (s *session) done(id []byte) {
	if id != nil {
		s.reply(appendOK(nil, id))
	}
}

func notDelivered(sub int32, seq uint64) *message.Problem {
	return message.Problemf(message.CodeNotDelivered,
		"message %d is not unacknowledged on sub %d of this session: never sent, or settled already", seq, sub)
}

func unknownSub(sub int32) *message.Problem {
	return message.Problemf(message.CodeNotDelivered, "this session has no sub %d", sub)
}

// ack settles what the window confirms and names the first of the rest.
func (s *session) ack(r *request) {
	s.mu.Lock()
	l := s.linkLocked(r.sub)
	if l == nil {
		s.replyLocked(appendError(nil, r.id, unknownSub(r.sub)))
		s.mu.Unlock()
		return
	}
	var settled []uint64
	var p *message.Problem
	if r.hasUpTo {
		if settled = l.window.TakeUpTo(r.upTo); settled == nil {
			p = notDelivered(r.sub, r.upTo)
		}
	} else {
		settled = make([]uint64, 0, min(len(r.seqs), l.window.Len()))
		for _, seq := range r.seqs {
			switch {
			case l.window.Take(seq):
				settled = append(settled, seq)
			case p == nil:
				p = notDelivered(r.sub, seq)
			}
		}
	}
	s.unacked -= len(settled)
	s.mu.Unlock()
	if len(settled) > 0 {
		l.att.Ack(settled)
	}
	if p != nil {
		s.fail(r.id, p)
		return
	}
	s.done(r.id)
}

func (s *session) nack(r *request) {
	s.mu.Lock()
	l := s.linkLocked(r.sub)
	var p *message.Problem
	switch {
	case l == nil:
		p = unknownSub(r.sub)
	case !l.window.Take(r.seq):
		p = notDelivered(r.sub, r.seq)
	default:
		s.unacked--
	}
	s.mu.Unlock()
	if p != nil {
		s.fail(r.id, p)
		return
	}
	l.att.Nack(r.seq, r.delay, r.reason, r.reject)
	s.done(r.id)
}

func (s *session) subscribe(r *request) {
	s.mu.Lock()
	g := s.grant
	p := s.refuseSubLocked(r)
	s.mu.Unlock()
	if p != nil {
		s.fail(r.id, p)
		return
	}
	if g.Kind == auth.Device && message.InboxOf(g.Name).Covers(r.want.Filter) {
		s.reply(appendSubscribed(nil, r.id, 0, false)) // the inbox is bound to this session already
		return
	}
	l := &link{s: s, sub: s.nextSub, name: r.want.Name, filter: r.want.Filter}
	ctx, cancel := context.WithTimeout(s.h.ctx, s.h.o.RequestTimeout)
	defer cancel()
	a, gap, err := s.h.o.Subscriber.Subscribe(ctx, g, r.want, l, s.h.attachOptions())
	if err != nil {
		s.fail(r.id, s.h.problem(err, "subscribe"))
		return
	}
	l.att = a
	s.nextSub++
	s.reply(appendSubscribed(nil, r.id, l.sub, gap))
	s.attach(l)
}

func (s *session) refuseSubLocked(r *request) *message.Problem {
	n := len(s.links)
	if s.linkLocked(0) != nil {
		n--
	}
	if n >= s.h.o.MaxSubs {
		return message.Problemf(message.CodeTooMany, "this session has %d subscriptions; end one first", s.h.o.MaxSubs)
	}
	for _, l := range s.links {
		if l.sub > 0 && l.name == r.want.Name && (l.name != "" || l.filter == r.want.Filter) {
			return message.Problemf(message.CodeExists, "sub %d of this session is that subscription; unsub it first", l.sub)
		}
	}
	return nil
}

func (s *session) unsubscribe(r *request) {
	if r.sub == 0 {
		s.fail(r.id, message.Problemf(message.CodeBadRequest, "sub 0 is the device's inbox; it ends with the session"))
		return
	}
	s.mu.Lock()
	g := s.grant
	i := slices.IndexFunc(s.links, func(l *link) bool {
		return l.sub > 0 && (l.sub == r.sub || r.want.Name != "" && l.name == r.want.Name)
	})
	var l *link
	name := r.want.Name
	if i >= 0 {
		l = s.links[i]
		name = l.name
		s.dropLocked(l)
	}
	s.mu.Unlock()
	if l != nil {
		l.att.Close(courier.Goodbye)
	}
	switch {
	case name != "":
		ctx, cancel := context.WithTimeout(s.h.ctx, s.h.o.RequestTimeout)
		defer cancel()
		if err := s.h.o.Subscriber.Unsubscribe(ctx, g, name); err != nil {
			s.fail(r.id, s.h.problem(err, "unsubscribe"))
			return
		}
	case l == nil:
		s.fail(r.id, message.Problemf(message.CodeNotFound, "this session has no sub %d", r.sub))
		return
	}
	s.done(r.id)
}

// publishProblem is for the committer, which must not be kept by writing a log; the log's owner has
// logged its own failure.
func publishProblem(err error) *message.Problem {
	if p := message.ProblemOf(err); p != nil {
		return p
	}
	return message.Problemf(codeInternal, "the appliance failed to store the message; its log says why")
}

// publish hands the message over and returns; the answer comes from the log's committer.
func (s *session) publish(r *request) {
	size := len(r.msg.Payload)
	s.mu.Lock()
	g := s.grant
	s.pubs++
	s.pubBytes += size
	s.mu.Unlock()
	id := bytes.Clone(r.id)
	s.h.o.Publisher.PublishAsync(g, r.msg, func(as message.StoredAs, err error) {
		var line []byte
		switch {
		case err != nil:
			line = appendError(nil, id, publishProblem(err))
		case id != nil:
			line = appendStored(nil, id, as)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pubs--
		s.pubBytes -= size
		s.wake.Signal()
		if line != nil {
			s.replyLocked(line)
		}
	})
}
