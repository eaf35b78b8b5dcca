package message

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopicBytes is the longest topic name or filter: MQTT strings carry a 16-bit length
// (MQTT 5.0 §1.5.4).
const MaxTopicBytes = 65_535

// Topic is a valid MQTT topic name: 1 to 65,535 bytes of UTF-8 without NUL and without the
// wildcards + and #. Levels are separated by "/" and may be empty, so "/a", "a//b" and "a/" are
// three different topics. Make one with [ParseTopic]; a Topic from anywhere else is unchecked.
type Topic string

// Filter is a valid MQTT topic filter: a topic in which a whole level may be "+" (exactly one
// level) and the last level may be "#" (the level before it and everything below). Make one with
// [ParseFilter].
type Filter string

// ParseTopic checks s against the rules of a topic name (MQTT 5.0 §4.7.3). The error is a
// [Problem] with [CodeBadTopic] that says what is wrong and where.
func ParseTopic(s string) (Topic, error) {
	if err := checkString(s, CodeBadTopic, "topic"); err != nil {
		return "", err
	}
	if i := strings.IndexAny(s, "+#"); i >= 0 {
		return "", Problemf(CodeBadTopic, "topic has the wildcard %q at byte %d; a message goes to one topic without wildcards", s[i], i)
	}
	return Topic(s), nil
}

// ParseFilter checks s against the rules of a topic filter (MQTT 5.0 §4.7.1). The error is a
// [Problem] with [CodeBadFilter] that says what is wrong and where.
func ParseFilter(s string) (Filter, error) {
	if err := checkString(s, CodeBadFilter, "filter"); err != nil {
		return "", err
	}
	for level, rest, more := 1, s, true; more; level++ {
		var l string
		l, rest, more = strings.Cut(rest, "/")
		switch {
		case l == "#" && more:
			return "", Problemf(CodeBadFilter, "filter has # at level %d; it may only be the last level", level)
		case len(l) > 1 && strings.ContainsAny(l, "+#"):
			return "", Problemf(CodeBadFilter, "filter has a wildcard inside level %d (%.40q); a wildcard fills a whole level", level, l)
		}
	}
	return Filter(s), nil
}

func checkString(s, code, what string) error {
	switch {
	case s == "":
		return Problemf(code, "%s is empty; it needs at least one byte", what)
	case len(s) > MaxTopicBytes:
		return Problemf(code, "%s has %d bytes; the limit is %d", what, len(s), MaxTopicBytes)
	}
	if i := strings.IndexByte(s, 0); i >= 0 {
		return Problemf(code, "%s has a NUL at byte %d", what, i)
	}
	if !utf8.ValidString(s) {
		return Problemf(code, "%s is not valid UTF-8", what)
	}
	return nil
}

// Reserved reports whether the topic starts with "$": filters that start with a wildcard do not
// match it (MQTT 5.0 §4.7.2), and only the appliance publishes there.
func (t Topic) Reserved() bool { return t != "" && t[0] == '$' }

// Match reports whether the filter selects the topic. It allocates nothing.
func (f Filter) Match(t Topic) bool {
	fs, ts := string(f), string(t)
	if fs == ts {
		return true // a topic has no wildcards, so this filter has none
	}
	if fs != "" && ts != "" && fs[0] != ts[0] && fs[0] != '+' && fs[0] != '#' {
		return false // most filters of a rule are about something else
	}
	if t.Reserved() && f.wildFirst() {
		return false
	}
	for {
		fl, frest, fmore := strings.Cut(fs, "/")
		if fl == "#" {
			return true
		}
		tl, trest, tmore := strings.Cut(ts, "/")
		if fl != "+" && fl != tl {
			return false
		}
		switch {
		case !tmore && !fmore:
			return true
		case !tmore: // "a/#" also selects "a" itself (MQTT 5.0 §4.7.1.2).
			return frest == "#"
		case !fmore:
			return false
		}
		fs, ts = frest, trest
	}
}

// wildFirst reports whether the filter starts with a wildcard.
func (f Filter) wildFirst() bool { return f != "" && (f[0] == '+' || f[0] == '#') }

// Covers reports whether every topic that g selects is also selected by f: the test by which a
// rule allows a subscription.
func (f Filter) Covers(g Filter) bool {
	if g != "" && g[0] == '$' && f.wildFirst() {
		return false
	}
	fs, gs := string(f), string(g)
	for {
		fl, frest, fmore := strings.Cut(fs, "/")
		if fl == "#" {
			return true
		}
		gl, grest, gmore := strings.Cut(gs, "/")
		if gl == "#" || (fl != "+" && fl != gl) {
			return false
		}
		switch {
		case !gmore && !fmore:
			return true
		case !gmore:
			return frest == "#"
		case !fmore:
			return false
		}
		fs, gs = frest, grest
	}
}

// Wild reports whether the filter has a wildcard and so can select more than one topic.
func (f Filter) Wild() bool { return strings.ContainsAny(string(f), "+#") }

// The address forms of the appliance (DESIGN §7).
const (
	devicePrefix = "device/"
	groupPrefix  = "group/"
	edgePrefix   = "$edge/"
)

// InboxOf returns the filter of everything addressed to the device.
func InboxOf(device string) Filter { return Filter(devicePrefix + device + "/in/#") }

// OutboxOf returns the filter of everything the device may publish by default.
func OutboxOf(device string) Filter { return Filter(devicePrefix + device + "/out/#") }

// GroupInbox returns the filter of everything addressed to the group's members.
func GroupInbox(group string) Filter { return Filter(groupPrefix + group + "/in/#") }

// ReceiptTopic returns where receipts for the publisher's message are announced.
func ReceiptTopic(publisher string, id ID) Topic {
	return Topic(edgePrefix + "receipt/" + publisher + "/" + id.String())
}

// ReceiptsOf returns the filter of all receipts of one publisher; it may always read them.
func ReceiptsOf(publisher string) Filter { return Filter(edgePrefix + "receipt/" + publisher + "/#") }

// The audit history (DESIGN §9): one topic, so that it has one order.
const (
	AuditTopic  Topic  = edgePrefix + "audit/log"
	AuditTopics Filter = edgePrefix + "audit/#"
)

// Device returns the device that the topic addresses: "lamp1" for "device/lamp1/in" and all below
// it. ok is false for every other topic.
func (t Topic) Device() (device string, ok bool) { return addressee(string(t), devicePrefix) }

// Group returns the group that the topic addresses: "hall" for "group/hall/in" and all below it.
func (t Topic) Group() (group string, ok bool) { return addressee(string(t), groupPrefix) }

func addressee(t, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(t, prefix)
	if !ok {
		return "", false
	}
	name, rest, ok := strings.Cut(rest, "/")
	if !ok || (rest != "in" && !strings.HasPrefix(rest, "in/")) {
		return "", false
	}
	return name, true
}

// CheckName checks the id of a device, or the name of a group, key or subscription:
// [A-Za-z0-9][A-Za-z0-9._:-]{0,63}. what names the thing in the error ("device id").
func CheckName(what, s string) error {
	bad := s == "" || len(s) > 64
	for i := 0; i < len(s) && !bad; i++ {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		bad = !alnum && (i == 0 || !strings.ContainsRune("._:-", rune(c)))
	}
	if bad {
		return &Problem{Code: CodeBadName, Detail: fmt.Sprintf("%s %.70q is not allowed: 1 to 64 of A-Z a-z 0-9 . _ : - starting with a letter or digit", what, s)}
	}
	return nil
}
