package mqtt

import (
	"fmt"
	"iter"
	"strconv"
	"sync"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// systemRoom holds the sessions that read $SYS topics. Its clock runs only while there are some.
type systemRoom struct {
	mu      sync.Mutex
	readers map[*session]struct{}
	timer   *time.Timer
}

func (r *systemRoom) join(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readers == nil {
		r.readers = make(map[*session]struct{})
	}
	r.readers[s] = struct{}{}
	if r.timer == nil {
		r.timer = time.AfterFunc(s.srv.o.SystemEvery, func() { r.tell(s.srv) })
	}
}

func (r *systemRoom) leave(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.readers, s)
	if len(r.readers) == 0 && r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

// tell sends a round of values to everyone.
func (r *systemRoom) tell(srv *Server) {
	r.mu.Lock()
	if r.timer == nil {
		r.mu.Unlock()
		return
	}
	r.timer.Reset(srv.o.SystemEvery)
	readers := make([]*session, 0, len(r.readers))
	for s := range r.readers {
		readers = append(readers, s)
	}
	r.mu.Unlock()
	for _, s := range readers {
		s.mu.Lock()
		list := s.subs.list
		s.mu.Unlock()
		entries := srv.systemEntries(s, list, false)
		s.mu.Lock()
		for _, e := range entries {
			if !s.closing && s.queued < srv.o.MaxBytes {
				s.queued += e.cost
				s.putLocked(e)
			}
		}
		s.mu.Unlock()
	}
}

// systemEntries are the current values that one of the filters selects.
func (s *Server) systemEntries(to *session, list []filter, retained bool) []entry {
	l := &link{s: to, source: fromSystem}
	var out []entry
	for topic, value := range s.System() {
		for i := range list {
			if f := &list[i]; f.source == fromSystem && f.filter.Match(topic) {
				m := message.New(topic, []byte(value))
				m.QoS, m.Volatile = message.AtMostOnce, true
				cost := len(topic) + len(value) + messageOverhead
				if retained {
					cost = 0 // not counted, like all that answers a SUBSCRIBE
				}
				out = append(out, entry{item: courier.NewItem(m), link: l, retained: retained, cost: cost})
				break
			}
		}
	}
	return out
}

// System yields the topics about the broker that common tools read, with their values now.
func (s *Server) System() iter.Seq2[message.Topic, string] {
	st := s.Stats()
	var c Census
	if s.o.Census != nil {
		c = s.o.Census()
	}
	up := time.Since(s.start)
	avg := s.loads.sample(up, &st)
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	return func(yield func(message.Topic, string) bool) {
		for _, v := range [...]struct{ name, value string }{
			{"version", "edgepost " + s.o.Version},
			{"uptime", fmt.Sprintf("%d seconds", int64(up.Seconds()))},
			{"clients/connected", num(st.Clients)},
			{"clients/active", num(st.Clients)},
			{"clients/disconnected", num(c.Away)},
			{"clients/inactive", num(c.Away)},
			{"clients/total", num(st.Clients + c.Away)},
			{"clients/maximum", num(st.MostClients)},
			{"messages/received", num(st.PacketsIn)},
			{"messages/sent", num(st.PacketsOut)},
			{"messages/stored", num(c.Owed)},
			{"store/messages/count", num(c.Owed)},
			{"retained messages/count", num(c.Retained)},
			{"publish/messages/received", num(st.PublishesIn)},
			{"publish/messages/sent", num(st.PublishesOut)},
			{"publish/messages/dropped", num(st.Dropped)},
			{"bytes/received", num(st.BytesIn)},
			{"bytes/sent", num(st.BytesOut)},
			{"subscriptions/count", num(st.Subscriptions)},
			{"shared_subscriptions/count", num(c.Shared)},
		} {
			if !yield(message.Topic("$SYS/broker/"+v.name), v.value) {
				return
			}
		}
		yieldLoads(&avg, yield)
	}
}
