package jwt

import (
	"fmt"
	"strings"
	"testing"

	"edgepost/appliance/message"
)

func TestACL(t *testing.T) {
	who := names{client: "c1", user: "alice"}
	const all = `{"permission":"%s","action":"%s","topic":"%s"}`
	rules := func(parts ...string) string {
		var list []string
		for i := 0; i < len(parts); i += 3 {
			list = append(list, fmt.Sprintf(all, parts[i], parts[i+1], parts[i+2]))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	for _, c := range []struct{ acl, pub, recv, sub string }{ // what is allowed of the topics and filters below
		{"null", "", "", ""},
		{"[]", "", "", ""},
		{rules("allow", "publish", "a/b"), "a/b", "", ""},
		{rules("allow", "all", "a/#"), "a/b a/c", "a/b a/c", "a/b a/# a/+"},
		// The first rule that applies decides, as in EMQX: a closing deny-all leaves what is above it.
		{rules("allow", "all", "a/b", "deny", "all", "#"), "a/b", "a/b", "a/b"},
		{rules("deny", "all", "a/b", "allow", "all", "a/#"), "a/c", "a/c", "a/# a/+"},
		{rules("allow", "subscribe", "#"), "", "a/b a/c c1/x alice/x", "a/b a/# a/+ # c1/+"},
		{rules("allow", "all", "${clientid}/#", "allow", "publish", "${username}/x"), "c1/x alice/x", "c1/x", "c1/+"},
		{rules("allow", "all", "eq a/#"), "", "a/b a/c", "a/#"},
		{rules("allow", "all", "eq a/b", "deny", "all", "eq a/#", "allow", "all", "a/#"), "a/b a/c", "a/b a/c", "a/b a/+"},
		{`{"pub":["a/b"],"sub":["a/+"],"all":["c1/#"]}`, "a/b c1/x", "a/b a/c c1/x", "a/b a/+ c1/+"},
		{`[{"permission":"allow","action":"all","topic":"a/b","qos":[0]}]`, "", "", ""},
		{`[{"permission":"allow","action":"all","topic":"a/b","retain":true}]`, "", "", ""},
		{`[{"permission":"allow","action":"all","topic":"a/b","qos":[0,1,2],"retain":"all"}]`, "a/b", "a/b", "a/b"},
		{`[{"permission":"deny","action":"all","topic":"a/b","qos":[2],"retain":true},` + rules("allow", "all", "a/#")[1:], "a/c", "a/c", "a/# a/+"},
	} {
		a, err := parseACL([]byte(c.acl), who)
		if err != nil {
			t.Errorf("%s: %v", c.acl, err)
			continue
		}
		var pub, recv, sub []string
		for _, topic := range []string{"a/b", "a/c", "c1/x", "alice/x", "other"} {
			if topic == "other" {
				continue
			}
			if ok, _ := a.MayPublish(message.Topic(topic)); ok {
				pub = append(pub, topic)
			}
			if a.MayReceive(message.Topic(topic)) {
				recv = append(recv, topic)
			}
		}
		for _, f := range []string{"a/b", "a/#", "a/+", "#", "c1/+"} {
			if ok, _ := a.MaySubscribe(message.Filter(f)); ok {
				sub = append(sub, f)
			}
		}
		if got := strings.Join(pub, " "); got != c.pub {
			t.Errorf("%s: publish %q, want %q", c.acl, got, c.pub)
		}
		if got := strings.Join(recv, " "); got != c.recv {
			t.Errorf("%s: receive %q, want %q", c.acl, got, c.recv)
		}
		if got := strings.Join(sub, " "); got != c.sub {
			t.Errorf("%s: subscribe %q, want %q", c.acl, got, c.sub)
		}
	}
}

// A name in a placeholder must never become a wildcard or another level.
func TestACLPlaceholders(t *testing.T) {
	const allow = `[{"permission":"allow","action":"all","topic":"u/${username}/x"}]`
	const deny = `[{"permission":"deny","action":"all","topic":"u/${username}/x"}]`
	for _, user := range []string{"#", "+", "a/b", "", "$edge"} {
		a, err := parseACL([]byte(allow), names{user: user})
		if err != nil || len(a.rules) != 0 {
			t.Errorf("user %q: %v, %v", user, a, err)
		}
		if _, err := parseACL([]byte(deny), names{user: user}); err == nil {
			t.Errorf("user %q: a rule that denies nobody knows what is left out", user)
		}
	}
	if a, err := parseACL([]byte(allow), names{user: "${clientid}", client: "c"}); err == nil && len(a.rules) > 0 && a.rules[0].topic == "u/c/x" {
		t.Error("a name is read as a placeholder")
	}
}

func TestACLRefusals(t *testing.T) {
	many := "[" + strings.Repeat(`{"permission":"allow","action":"all","topic":"a"},`, maxRules) + `{"permission":"allow","action":"all","topic":"a"}]`
	for _, doc := range []string{
		`7`, `"all"`, `true`, `[7]`, `{"pub":"a"}`, many, `[{"permission":"allow"}]`, `[{"permission":"allow","action":"all"}]`,
		`[{"permission":"allow","permission":"deny","action":"all","topic":"a"}]`,
	} {
		if a, err := parseACL([]byte(doc), names{}); err == nil {
			t.Errorf("%.60s: %v", doc, a)
		}
	}
}

func FuzzACL(f *testing.F) {
	f.Add(`[{"permission":"allow","action":"all","topic":"u/${username}/#"}]`, "alice")
	f.Add(`{"pub":["a"],"sub":["#"],"all":["eq +/+"]}`, "")
	f.Fuzz(func(t *testing.T, doc, user string) {
		a, err := parseACL([]byte(doc), names{user: user})
		if err != nil || a == nil {
			return
		}
		for _, r := range a.rules {
			if _, err := message.ParseFilter(string(r.topic)); err != nil {
				t.Fatalf("rule %q of %q", r.topic, doc)
			}
		}
	})
}
