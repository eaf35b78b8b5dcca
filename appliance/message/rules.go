package message

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
	return !covered(r.DenySubscribe, f) && covered(r.Subscribe, f)
}

func covered(by []Filter, f Filter) bool {
	for _, b := range by {
		if b.Covers(f) {
			return true
		}
	}
	return false
}

func allows(allow, deny []Filter, t Topic) bool { return !matched(deny, t) && matched(allow, t) }

func matched(by []Filter, t Topic) bool {
	for _, f := range by {
		if f.Match(t) {
			return true
		}
	}
	return false
}
