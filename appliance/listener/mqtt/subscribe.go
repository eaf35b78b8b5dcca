package mqtt

import (
	"context"
	"errors"
	"slices"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// ownInbox reports whether the filter lies inside the inbox of the client's device.
func (s *session) ownInbox(f message.Filter) bool {
	return s.grant.Kind == auth.Device && s.srv.o.InInbox(s.grant, f)
}

// covered returns the commands of the client's device that the filter covers; nil for none.
func (s *session) covered(f message.Filter) (list []message.Filter) {
	if s.grant.Kind != auth.Device || s.srv.o.Commands == nil {
		return nil
	}
	for _, c := range s.srv.o.Commands(s.grant) {
		if f.Covers(c) {
			list = append(list, c)
		}
	}
	return list
}

// request is a SUBSCRIBE while it is carried out.
type request struct {
	edit   *edit
	codes  []byte
	taken  []taken
	change bool             // the session's own filters change
	show   []message.Filter // retained messages of these are to be delivered
	read   []message.Filter // and of these, which are of QoS 0
}

// taken is a filter of a SUBSCRIBE that was allowed.
type taken struct {
	at     int // of codes
	filter filter
	isNew  bool
}

// subscribe handles a SUBSCRIBE. Messages wait until the SUBACK is written, which is when everything
// is on stable storage.
func (s *session) subscribe(p *packet.Packet) bool {
	var id uint32
	if len(p.Props.SubscriptionIDs) > 0 {
		id = p.Props.SubscriptionIDs[0]
	}
	inUse := s.v == packet.V5 && s.idInUse(p.ID)
	if !inUse && !s.stored() {
		return false
	}
	s.settleAcks() // a retained message that was acknowledged just before is to be sent again
	r := &request{edit: s.subs.edit(), codes: make([]byte, len(p.Filters))}
	for i := range p.Filters {
		if inUse {
			r.codes[i] = packet.PacketIdentifierInUse
			continue
		}
		if f, code := s.admit(r, &p.Filters[i], id); code != packet.Success {
			r.codes[i] = code
		} else {
			r.take(i, f, p.Filters[i].RetainHandling)
		}
	}
	s.hold(true)
	retained := s.carryOut(r)
	if s.v != packet.V5 {
		for i, code := range r.codes {
			if code >= packet.UnspecifiedError { // [MQTT-3.9.3-2] of 3.1.1
				r.codes[i] = packet.SubackFailure
			}
		}
	}
	s.mu.Lock()
	s.replyLocked(s.appendCodes(nil, packet.SUBACK, p.ID, r.codes))
	s.putFirstLocked(retained)
	s.mu.Unlock()
	s.hold(false)
	return true
}

// stored waits until what the client published before is on stable storage or was refused: a SUBSCRIBE
// behind a publish that is retained shows it. False: the session is over.
func (s *session) stored() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closing && s.owed.pubs > 0 {
		s.wake.Wait()
	}
	return !s.closing
}

// hold keeps messages from being written, or lets them go.
func (s *session) hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held = on; !on {
		s.startLocked()
	}
}

// idInUse reports whether a publish under the id is not answered yet [MQTT-2.2.1-3].
func (s *session) idInUse(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, unsent := s.owed.unsent[id]
	return unsent || s.owed.waits(id)
}

// admit checks one filter.
func (s *session) admit(r *request, sub *packet.Subscription, id uint32) (filter, byte) {
	f, code := s.parseFilter(sub)
	if code != packet.Success {
		return f, code
	}
	f.id = id
	may := f.filter
	if f.source == fromSystem && s.srv.o.Subscriber.MaySubscribe(s.grant, "#") == nil {
		may = "" // who may read everything may also read how the broker does
	}
	if may != "" {
		if err := s.srv.o.Subscriber.MaySubscribe(s.grant, may); err != nil {
			return f, s.subscribeCode(err)
		}
	}
	if _, known := r.edit.names[f.text()]; !known && len(r.edit.list) >= s.srv.o.MaxSubscriptions {
		return f, packet.QuotaExceeded
	}
	return f, packet.Success
}

// take puts an allowed filter into the edit.
func (r *request) take(at int, f filter, retainHandling byte) {
	isNew := r.edit.put(f)
	r.codes[at] = byte(f.qos) // [MQTT-3.9.3-1]
	r.taken = append(r.taken, taken{at, f, isNew})
	if f.source != fromSession {
		return
	}
	r.change = true
	if retainHandling == 2 || retainHandling == 1 && !isNew { // [MQTT-3.3.1-9] to -11
		return
	}
	if f.qos == message.AtMostOnce {
		r.read = append(r.read, f.filter)
	} else {
		r.show = append(r.show, f.filter)
	}
}

// carryOut makes the filters effective and returns the retained messages of QoS 0. A filter that
// fails gets its code and is taken out again.
func (s *session) carryOut(r *request) []entry {
	if len(r.taken) == 0 {
		return nil
	}
	ctx, cancel := s.srv.request()
	defer cancel()
	before := s.subs
	s.setFilters(newFilters(r.edit.list))
	var failed error
	if r.change {
		failed = s.change(ctx, r.show)
	} else if s.durable {
		failed = s.change(ctx, nil)
	}
	if failed != nil {
		s.setFilters(before)
		for _, t := range r.taken {
			r.codes[t.at] = s.subscribeCode(failed)
		}
		return nil
	}
	gone := false
	for i := range r.taken {
		t := &r.taken[i]
		if err := s.attachFor(ctx, &t.filter); err != nil {
			r.codes[t.at] = s.subscribeCode(err)
			_, removed := r.edit.remove(t.filter.text())
			gone = gone || removed
		}
	}
	if gone {
		s.setFilters(newFilters(r.edit.list))
		if s.durable {
			if err := s.change(ctx, nil); err != nil {
				s.srv.o.Log.Warn("an MQTT session could not be changed", "client", s.client, "error", err)
			}
		}
	}
	s.selectInbox()
	return s.retained(ctx, r)
}

// change has the courier follow the session's filters.
func (s *session) change(ctx context.Context, show []message.Filter) error {
	if p := s.attachSession(ctx); p != nil {
		return p
	}
	return s.srv.o.Sessions.ChangeSession(ctx, s.grant, s.spec(), show)
}

func (s *session) setFilters(f *filters) {
	s.srv.count.subscriptions.Add(int64(len(f.list) - len(s.subs.list)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = f
}

// attachFor attaches what a filter needs beside the session's own subscription.
func (s *session) attachFor(ctx context.Context, f *filter) error {
	from := f.source
	if f.binds() {
		from = fromInbox
	}
	l := &link{s: s, source: from, group: f.group, filter: f.filter}
	var a courier.Attachment
	var err error
	switch from {
	case fromInbox:
		if s.link(fromInbox) != nil {
			return nil // selectInbox follows
		}
		o := s.attachOptions()
		l.selects = s.subs.ofInbox()
		o.Select = l.selects
		a, err = s.srv.o.Subscriber.OpenInbox(ctx, s.grant, l, o)
	case fromShared:
		if s.sharedLink(f) != nil {
			return nil
		}
		a, err = s.srv.o.Subscriber.Shared(ctx, s.grant, f.group, f.filter, l, s.attachOptions())
	case fromSystem:
		s.srv.system.join(s)
		return nil
	case fromSession:
		return nil
	}
	if err != nil {
		return err
	}
	s.attached(l, a)
	return nil
}

// selectInbox tells the courier what of the device's inbox the session takes, if that changed.
func (s *session) selectInbox() {
	l := s.link(fromInbox)
	if l == nil {
		return
	}
	if list := s.subs.ofInbox(); !slices.Equal(list, l.selects) {
		l.selects = list
		l.att.Select(list)
	}
}

// retained reads the retained messages for new filters of QoS 0.
func (s *session) retained(ctx context.Context, r *request) []entry {
	var list []entry
	l := s.link(fromSession)
	for _, f := range r.read {
		ms, err := s.srv.o.Subscriber.Retained(ctx, s.grant, f)
		if err != nil {
			s.srv.o.Log.Warn("retained messages could not be read", "client", s.client, "filter", f, "error", err)
			continue
		}
		for _, m := range ms {
			list = append(list, entry{item: courier.NewItem(m), link: l, retained: true})
		}
	}
	for _, t := range r.taken {
		if t.filter.source == fromSystem && r.codes[t.at] < packet.UnspecifiedError {
			list = append(list, s.srv.systemEntries(s, []filter{t.filter}, true)...)
		}
	}
	return list
}

// subscribeCode is the reason code of 5.0 for a filter that was refused.
func (s *session) subscribeCode(err error) byte {
	p, ok := errors.AsType[*message.Problem](err)
	if !ok {
		p = s.problemOf(err, "subscribe")
	}
	switch p.Code {
	case message.CodeForbidden:
		return packet.NotAuthorized
	case message.CodeBadFilter:
		return packet.TopicFilterInvalid
	case message.CodeQuota, message.CodeStorageFull, message.CodeStorageFailed, message.CodeTooMany:
		return packet.QuotaExceeded
	case message.CodeUnavailable, message.CodeTimeout, codeInternal:
		return packet.UnspecifiedError
	default:
		return packet.ImplementationSpecificError
	}
}

// unsubscribe handles an UNSUBSCRIBE. What is on its way is completed [MQTT-3.10.4-3].
func (s *session) unsubscribe(p *packet.Packet) bool {
	e := s.subs.edit()
	codes := make([]byte, len(p.Filters))
	inUse := s.v == packet.V5 && s.idInUse(p.ID)
	var gone []filter
	for i := range p.Filters {
		if inUse {
			codes[i] = packet.PacketIdentifierInUse
			continue
		}
		f, ok := e.remove(string(p.Filters[i].Filter))
		switch {
		case ok:
			gone = append(gone, f)
		case s.badFilter(&p.Filters[i]):
			codes[i] = packet.TopicFilterInvalid
		default:
			codes[i] = packet.NoSubscriptionExisted
		}
	}
	if len(gone) > 0 {
		if code := s.drop(e, gone); code != packet.Success {
			for i := range codes {
				codes[i] = code
			}
			if s.v != packet.V5 { // nothing can be said; the client tries again on another connection
				return s.bye(code, "")
			}
		}
	}
	if s.v != packet.V5 {
		codes = nil
	}
	s.reply(s.appendCodes(nil, packet.UNSUBACK, p.ID, codes))
	return true
}

func (s *session) badFilter(sub *packet.Subscription) bool {
	_, code := s.parseFilter(sub)
	return code != packet.Success
}

// drop makes the loss of filters effective.
func (s *session) drop(e *edit, gone []filter) byte {
	ctx, cancel := s.srv.request()
	defer cancel()
	before := s.subs
	s.setFilters(newFilters(e.list))
	own := s.durable
	for i := range gone {
		own = own || gone[i].source == fromSession
	}
	if own {
		if err := s.change(ctx, nil); err != nil {
			s.setFilters(before)
			return s.subscribeCode(err)
		}
	}
	for i := range gone {
		f := &gone[i]
		if f.binds() && !s.subs.has(fromInbox) {
			s.detach(s.link(fromInbox))
		}
		switch f.source {
		case fromShared:
			s.detach(s.sharedLink(f))
		case fromSystem:
			if !s.subs.has(fromSystem) {
				s.srv.system.leave(s)
			}
		case fromSession, fromInbox:
		}
	}
	s.selectInbox()
	return packet.Success
}

// systemPrefix begins the topics about the broker itself.
const systemPrefix = "$SYS/"

func isSystem(f message.Filter) bool {
	return len(f) >= len(systemPrefix) && f[:len(systemPrefix)] == systemPrefix
}
