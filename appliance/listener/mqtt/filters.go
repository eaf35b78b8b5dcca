package mqtt

import (
	"encoding/json"
	"maps"
	"slices"

	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// source is where a session's messages come from. The numbers are in durable notes.
type source uint8

const (
	fromSession source = iota // the session's own subscription
	fromInbox                 // the device's inbox
	fromShared                // a shared subscription
	fromSystem                // the listener itself: $SYS topics
)

// filter is one filter of a session with its options (5.0 §3.8.3.1).
type filter struct {
	source  source
	qos     message.QoS // granted
	noLocal bool
	asIs    bool // retain as published
	id      uint32
	group   string // of a shared subscription
	filter  message.Filter

	// commands are those of the device's inbox that the filter covers: they come from there, once, and are
	// there whatever the session does.
	commands []message.Filter
}

// from is where a message on the topic comes from that the filter selects.
func (f *filter) from(t message.Topic) source {
	for _, c := range f.commands {
		if c.Match(t) {
			return fromInbox
		}
	}
	return f.source
}

// binds reports whether the filter binds the device's inbox to the session.
func (f *filter) binds() bool { return f.source == fromInbox || f.commands != nil }

// text is the filter as the client wrote it.
func (f *filter) text() string {
	if f.source == fromShared {
		return sharePrefix + f.group + "/" + string(f.filter)
	}
	return string(f.filter)
}

const sharePrefix = "$share/"

// filters is what a session subscribes. It is never changed: a SUBSCRIBE makes another one, so that
// the writer reads it without a lock.
type filters struct {
	list []filter
	tree *message.Tree[int] // indexes of list, from indexFrom on
}

// indexFrom is where trying every filter begins to cost more than a tree.
const indexFrom = 24

func newFilters(list []filter) *filters {
	f := &filters{list: list}
	if len(list) >= indexFrom {
		f.tree = new(message.Tree[int])
		for i := range list {
			f.tree.Add(list[i].filter, i)
		}
	}
	return f
}

// names maps the texts of all filters to their places.
func (f *filters) names() map[string]int {
	m := make(map[string]int, len(f.list))
	for i := range f.list {
		m[f.list[i].text()] = i
	}
	return m
}

// each calls fn for every filter that selects the topic.
func (f *filters) each(t message.Topic, fn func(*filter)) {
	if f.tree != nil {
		f.tree.Match(t, func(i int) { fn(&f.list[i]) })
		return
	}
	for i := range f.list {
		if f.list[i].filter.Match(t) {
			fn(&f.list[i])
		}
	}
}

// has reports whether a filter of the source is left.
func (f *filters) has(from source) bool {
	return slices.ContainsFunc(f.list, func(have filter) bool { return have.source == from || from == fromInbox && have.binds() })
}

// split divides the session's own filters into those whose messages are owed and those whose messages
// are only handed on.
func (f *filters) split() (owed, passing []message.Filter) {
	for i := range f.list {
		switch have := &f.list[i]; {
		case have.source != fromSession:
		case have.qos == message.AtMostOnce:
			passing = append(passing, have.filter)
		default:
			owed = append(owed, have.filter)
		}
	}
	return owed, passing
}

// ofInbox are the filters that select what of the device's inbox the session takes.
func (f *filters) ofInbox() (list []message.Filter) {
	for i := range f.list {
		have := &f.list[i]
		if have.source == fromInbox {
			list = append(list, have.filter)
		}
		list = append(list, have.commands...)
	}
	return list
}

// verdict says how a message goes to the client.
type verdict struct {
	qos    message.QoS
	retain bool
	ids    []uint32
}

// judge matches a message against the filters of its source: one copy, with the highest QoS and all
// identifiers [MQTT-3.3.4-2], [MQTT-3.3.4-4]. ok is false when no filter wants it any more.
func (f *filters) judge(l *link, m *message.Message, local, retained bool) (v verdict, ok bool) {
	asIs, own := false, false
	take := func(have *filter) {
		if have.from(m.Topic) != l.source {
			return
		}
		if have.noLocal && local { // [MQTT-3.8.3-3]
			own = true
			return
		}
		if l.source == fromShared && (have.filter != l.filter || have.group != l.group) {
			return
		}
		ok = true
		v.qos = max(v.qos, have.qos)
		asIs = asIs || have.asIs
		if have.id != 0 && !slices.Contains(v.ids, have.id) {
			v.ids = append(v.ids, have.id)
		}
	}
	f.each(m.Topic, take)
	if !ok && !own && l.source == fromInbox { // was unsubscribed just now: what is under way is completed [MQTT-3.10.4-3]
		for i := range f.list {
			if have := &f.list[i]; have.binds() {
				ok = true
				v.qos = max(v.qos, have.qos)
			}
		}
	}
	v.qos = min(v.qos, m.QoS)               // [MQTT-3.8.4-8]
	v.retain = retained || asIs && m.Retain // [MQTT-3.3.1-8], -12, -13
	return v, ok
}

// direct says how a message goes to the client that was stored for its session alone; v and ok are what the
// session's own filters say. One that a shared subscription gave goes as that was granted; if that is no more
// subscribed, it is completed all the same [MQTT-3.10.4-3], [MQTT-4.8.2-4].
func (f *filters) direct(m *message.Message, v verdict, ok bool) (verdict, bool) {
	var shared verdict
	f.each(m.Topic, func(have *filter) {
		if have.source == fromShared && have.qos == message.ExactlyOnce {
			shared.qos = message.ExactlyOnce
			if have.id != 0 && !slices.Contains(shared.ids, have.id) {
				shared.ids = append(shared.ids, have.id)
			}
		}
	})
	switch {
	case shared.qos == message.ExactlyOnce:
		v = shared
	case !ok:
		v = verdict{qos: message.ExactlyOnce}
	}
	v.qos = min(v.qos, m.QoS)
	return v, true
}

// meta is what a durable session keeps of its filters, as JSON.
type meta struct {
	Filters []metaFilter `json:"filters,omitempty"`
}

type metaFilter struct {
	Filter  message.Filter `json:"f"`
	Group   string         `json:"g,omitempty"`
	Source  source         `json:"s,omitempty"`
	QoS     message.QoS    `json:"q,omitempty"`
	NoLocal bool           `json:"nl,omitempty"`
	AsIs    bool           `json:"rap,omitempty"`
	ID      uint32         `json:"id,omitempty"`
}

func encodeMeta(f *filters) json.RawMessage {
	m := meta{Filters: make([]metaFilter, 0, len(f.list))}
	for i := range f.list {
		have := &f.list[i]
		m.Filters = append(m.Filters, metaFilter{
			Filter: have.filter, Group: have.group, Source: have.source, QoS: have.qos, NoLocal: have.noLocal, AsIs: have.asIs, ID: have.id,
		})
	}
	b, err := json.Marshal(&m)
	if err != nil { // strings, numbers and bytes always marshal
		return nil
	}
	return b
}

func (m *meta) filters() *filters {
	list := make([]filter, 0, len(m.Filters))
	for _, have := range m.Filters {
		list = append(list, filter{
			filter: have.Filter, group: have.Group, source: have.Source, qos: have.QoS, noLocal: have.NoLocal, asIs: have.AsIs, id: have.ID,
		})
	}
	return newFilters(list)
}

// parseFilter reads one filter of a SUBSCRIBE or UNSUBSCRIBE.
func (s *session) parseFilter(sub *packet.Subscription) (filter, byte) {
	f := filter{qos: message.QoS(sub.QoS), noLocal: sub.NoLocal, asIs: sub.RetainAsPublished}
	text := string(sub.Filter)
	if group, rest, ok := packet.SplitShare(sub.Filter); ok {
		f.source, f.group, text = fromShared, string(group), string(rest)
		if !s.durable || s.expiry == 0 { // what is promised to this client needs a session that keeps it
			f.qos = min(f.qos, message.AtLeastOnce)
		}
	}
	var err error
	if f.filter, err = message.ParseFilter(text); err != nil {
		return f, packet.TopicFilterInvalid
	}
	switch {
	case f.source == fromShared:
	case isSystem(f.filter):
		f.source, f.qos = fromSystem, message.AtMostOnce
	case s.ownInbox(f.filter):
		f.source = fromInbox
	default:
		f.commands = s.covered(f.filter)
	}
	return f, packet.Success
}

// edit is a set of filters while a SUBSCRIBE or UNSUBSCRIBE changes it.
type edit struct {
	list  []filter
	names map[string]int
}

func (f *filters) edit() *edit { return &edit{list: slices.Clone(f.list), names: f.names()} }

// put adds the filter or replaces the one of the same name; isNew says which.
func (e *edit) put(f filter) (isNew bool) {
	name := f.text()
	if i, ok := e.names[name]; ok {
		e.list[i] = f
		return false
	}
	e.names[name] = len(e.list)
	e.list = append(e.list, f)
	return true
}

// remove takes the filter out; false when it is not there.
func (e *edit) remove(name string) (filter, bool) {
	i, ok := e.names[name]
	if !ok {
		return filter{}, false
	}
	f := e.list[i]
	e.list = slices.Delete(e.list, i, i+1)
	delete(e.names, name)
	for n, at := range maps.All(e.names) {
		if at > i {
			e.names[n] = at - 1
		}
	}
	return f, true
}
