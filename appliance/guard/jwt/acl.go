package jwt

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4/json"

	"edgepost/appliance/message"
)

// maxRules is far above what fits into a token of [MaxToken] bytes with real topics.
const maxRules = 128

// ACL is what a token allows, from its claim "acl" in the form of EMQX 5 (its manual, "ACL rules of JWT"):
// a list of rules of which the first that applies decides, or the older object of allowing lists.
//
//	[{"permission":"deny","action":"subscribe","topic":"a/secret"},
//	 {"permission":"allow","action":"all","topic":"a/#"}]
//	{"pub":["a/b"],"sub":["a/#"],"all":["c/${clientid}/#"]}
//
// Differences, each to the safe side: what no rule applies to is denied (EMQX asks further
// authorizers); "${username}" is the token's subject and "${clientid}" its claim client_id or
// clientid, never what a client says of itself; an allowing rule that only holds for some QoS or for
// retain, which is not looked at here, does not apply, and a denying one always does.
//
// "eq " before a topic takes its wildcards literally. The nil ACL denies. It is immutable.
type ACL struct{ rules []rule }

type rule struct {
	allow     bool
	publish   bool
	subscribe bool
	literal   bool
	topic     message.Filter
	text      string // as the token has it, for people
}

// MayPublish reports whether a publish to the topic is allowed, and by which rule.
func (a *ACL) MayPublish(t message.Topic) (ok bool, by string) {
	return a.decide(func(r *rule) bool {
		return r.publish && (r.literal && string(r.topic) == string(t) || !r.literal && r.topic.Match(t))
	})
}

// MayReceive reports whether a message on the topic may be delivered.
func (a *ACL) MayReceive(t message.Topic) bool {
	ok, _ := a.decide(func(r *rule) bool {
		if r.literal && !r.allow { // it forbids one filter, not what others select
			return r.subscribe && string(r.topic) == string(t)
		}
		return r.subscribe && r.topic.Match(t)
	})
	return ok
}

// MaySubscribe reports whether the filter is allowed, and by which rule: the first that covers all
// of it. A denying rule that only overlaps is enforced message by message, at delivery.
func (a *ACL) MaySubscribe(f message.Filter) (ok bool, by string) {
	return a.decide(func(r *rule) bool {
		return r.subscribe && (r.topic == f || !r.literal && r.topic.Covers(f))
	})
}

func (a *ACL) decide(applies func(*rule) bool) (bool, string) {
	if a == nil {
		return false, ""
	}
	for i := range a.rules {
		if r := &a.rules[i]; applies(r) {
			return r.allow, r.text
		}
	}
	return false, ""
}

// names are what placeholders stand for; "" is unknown.
type names struct{ client, user string }

// aclRule is one rule as EMQX writes it.
type aclRule struct {
	Permission string          `json:"permission"`
	Action     string          `json:"action"`
	Topic      string          `json:"topic"`
	QoS        json.RawMessage `json:"qos"`
	Retain     json.RawMessage `json:"retain"`
}

// parseACL reads the claim; nil when it is absent or null.
func parseACL(raw []byte, n names) (*ACL, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	list, err := readRules(raw)
	if err != nil {
		return nil, fmt.Errorf("its claim acl is not in EMQX's form")
	}
	if len(list) > maxRules {
		return nil, fmt.Errorf("its claim acl has %d rules; the limit is %d", len(list), maxRules)
	}
	acl := new(ACL)
	for i := range list {
		r, use, err := list[i].rule(n)
		if err != nil {
			return nil, fmt.Errorf("rule %d of its claim acl: %w", i, err)
		}
		if use {
			acl.rules = append(acl.rules, r)
		}
	}
	return acl, nil
}

func readRules(raw []byte) ([]aclRule, error) {
	var list []aclRule
	if raw[0] == '[' {
		return list, json.Unmarshal(raw, &list)
	}
	var old struct {
		Pub []string `json:"pub"`
		Sub []string `json:"sub"`
		All []string `json:"all"`
	}
	if err := json.Unmarshal(raw, &old); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		action string
		topics []string
	}{{"publish", old.Pub}, {"subscribe", old.Sub}, {"all", old.All}} {
		for _, t := range l.topics {
			list = append(list, aclRule{Permission: "allow", Action: l.action, Topic: t})
		}
	}
	return list, nil
}

// rule reads one rule; use is false for an allowing one that cannot apply. A denying rule that we do
// not understand is an error, which refuses the token: leaving it out would allow.
func (j *aclRule) rule(n names) (r rule, use bool, err error) {
	switch j.Permission {
	case "allow":
		r.allow = true
	case "deny":
	default:
		return r, false, fmt.Errorf("permission %.20q is neither allow nor deny", j.Permission)
	}
	switch j.Action {
	case "publish":
		r.publish = true
	case "subscribe":
		r.subscribe = true
	case "all":
		r.publish, r.subscribe = true, true
	default:
		return r, false, fmt.Errorf("action %.20q is none of publish, subscribe, all", j.Action)
	}
	topic, literal := strings.CutPrefix(j.Topic, "eq ")
	r.literal, r.text = literal, j.Permission+" "+j.Action+" "+strconv.Quote(j.Topic)
	topic, known, err := n.fill(topic)
	switch {
	case err != nil:
		return r, false, err
	case !known && !r.allow:
		return r, false, fmt.Errorf("it denies %.80q, and the token does not say what that stands for", j.Topic)
	case !known, r.allow && j.narrowed():
		return r, false, nil
	}
	f, err := message.ParseFilter(topic)
	if err != nil {
		return r, false, fmt.Errorf("topic %.80q is no filter", j.Topic)
	}
	r.topic = f
	return r, true, nil
}

// narrowed reports whether the rule holds for some QoS or for some of retain only.
func (j *aclRule) narrowed() bool {
	retain := string(bytes.TrimSpace(j.Retain))
	if retain != "" && retain != "null" && retain != `"all"` {
		return true
	}
	if q := string(bytes.TrimSpace(j.QoS)); q == "" || q == "null" {
		return false
	}
	var list []int
	if json.Unmarshal(j.QoS, &list) != nil {
		return true
	}
	return !slices.Contains(list, 0) || !slices.Contains(list, 1) || !slices.Contains(list, 2)
}

// fill puts names in for placeholders. known is false when a name is missing, or is one that would
// change the topic's structure: a subject "#" must not become a wildcard.
func (n names) fill(topic string) (_ string, known bool, err error) {
	known = true
	for _, p := range []struct{ holder, value string }{{"${clientid}", n.client}, {"${username}", n.user}} {
		if strings.Contains(topic, p.holder) {
			known = known && p.value != "" && !strings.ContainsAny(p.value, "/+#$\x00")
			topic = strings.ReplaceAll(topic, p.holder, p.value)
		}
	}
	if known && strings.Contains(topic, "${") {
		return "", false, fmt.Errorf("topic %.80q has an unknown placeholder; there are ${clientid} and ${username}", topic)
	}
	return topic, known, nil
}
