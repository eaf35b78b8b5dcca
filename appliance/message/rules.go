package message

import "slices"

// Rules is what a principal may do, as topic filters. Deny wins; what no filter allows is denied.
type Rules struct {
	Publish       []Filter `json:"publish,omitempty"`
	DenyPublish   []Filter `json:"deny_publish,omitempty"`
	Subscribe     []Filter `json:"subscribe,omitempty"`
	DenySubscribe []Filter `json:"deny_subscribe,omitempty"`
}

// MayPublish reports whether the rules allow a publish to the topic.
func (r *Rules) MayPublish(t Topic) bool { return allows(r.Publish, r.DenyPublish, t) }

// MayReceive reports whether the rules allow a message on the topic to be delivered.
func (r *Rules) MayReceive(t Topic) bool { return allows(r.Subscribe, r.DenySubscribe, t) }

// MaySubscribe reports whether the rules allow the filter: an allowing filter covers all of it, and
// no denying filter does. A deny that only overlaps is enforced message by message, at delivery.
func (r *Rules) MaySubscribe(f Filter) bool {
	return covered(r.DenySubscribe, f) == "" && covered(r.Subscribe, f) != ""
}

// Within reports whether the rules allow nothing that old does not allow. It compares filter by filter: true is certain,
// false may only be that several filters of old together allow what one of r does.
func (r *Rules) Within(old *Rules) bool {
	return within(r.Publish, r.DenyPublish, old.Publish, old.DenyPublish) &&
		within(r.Subscribe, r.DenySubscribe, old.Subscribe, old.DenySubscribe)
}

func within(allow, deny, oldAllow, oldDeny []Filter) bool {
	return len(allow) == 0 || allCovered(allow, oldAllow) && allCovered(oldDeny, deny)
}

func allCovered(list, by []Filter) bool {
	return !slices.ContainsFunc(list, func(f Filter) bool { return covered(by, f) == "" })
}

// NoRule is what explanations say when nothing allows it.
const NoRule = "no rule allows it"

// ExplainPublish is MayPublish, and says by which rule.
func (r *Rules) ExplainPublish(t Topic) (ok bool, by string) {
	return explain("publish", matched(r.Publish, t), matched(r.DenyPublish, t))
}

// ExplainSubscribe is MaySubscribe, and says by which rule.
func (r *Rules) ExplainSubscribe(f Filter) (ok bool, by string) {
	return explain("subscribe", covered(r.Subscribe, f), covered(r.DenySubscribe, f))
}

func explain(action string, allow, deny Filter) (ok bool, by string) {
	switch {
	case deny != "":
		return false, "deny_" + action + " " + string(deny)
	case allow != "":
		return true, action + " " + string(allow)
	}
	return false, NoRule
}

// covered returns the first filter that covers all of f, "" when none does; the empty filter is none.
func covered(by []Filter, f Filter) Filter {
	for _, b := range by {
		if b.Covers(f) {
			return b
		}
	}
	return ""
}

func allows(allow, deny []Filter, t Topic) bool {
	return matched(deny, t) == "" && matched(allow, t) != ""
}

// matched returns the first filter that selects the topic, "" when none does.
func matched(by []Filter, t Topic) Filter {
	for _, f := range by {
		if f.Match(t) {
			return f
		}
	}
	return ""
}
