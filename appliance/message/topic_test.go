package message

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// wantCode checks that err is a Problem with the code, and that it says something.
func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	p := ProblemOf(err)
	if p == nil || p.Code != code || len(p.Detail) < 10 || !utf8.ValidString(p.Detail) || strings.ContainsRune(p.Detail, 0) {
		t.Errorf("%s: got %v, want a problem %q", what, err, code)
	}
}

func TestParseTopic(t *testing.T) {
	for s, ok := range map[string]bool{
		"a": true, "/": true, "//": true, "a/": true, "/a": true, "a//b": true, " ": true, "é/日本": true, "$edge/x": true,
		"device/lamp1/in/set":              true,
		strings.Repeat("x", MaxTopicBytes): true,
		strings.Repeat("/", MaxTopicBytes): true,
		"":                                 false, "a/#": false, "+": false, "a+b": false, "a#": false, "a\x00b": false, "\x00": false,
		"a\xff": false, "\xed\xa0\x80": false, // a UTF-16 surrogate (MQTT 5.0 §1.5.4)
		strings.Repeat("x", MaxTopicBytes+1): false,
	} {
		code := ""
		if !ok {
			code = CodeBadTopic
		}
		got, err := ParseTopic(s)
		wantCode(t, s[:min(len(s), 20)], err, code)
		if ok && string(got) != s {
			t.Errorf("%.20q became %.20q", s, got)
		}
	}
}

func TestParseFilter(t *testing.T) {
	for s, ok := range map[string]bool{
		"a": true, "#": true, "+": true, "/": true, "+/+": true, "/+": true, "a/#": true, "+/a/#": true, "a/+/b": true, "/#": true, "$edge/#": true,
		strings.Repeat("+/", MaxTopicBytes/2) + "#": true,
		"":   false,
		"##": false, "a#": false, "#a": false, "a/#/b": false, "#/": false, "#/a": false, "+a": false, "a+": false, "++": false, "a/b+/c": false, "+#": false,
		"a\x00": false, "\xff": false, strings.Repeat("x", MaxTopicBytes+1): false,
	} {
		code := ""
		if !ok {
			code = CodeBadFilter
		}
		got, err := ParseFilter(s)
		wantCode(t, s[:min(len(s), 20)], err, code)
		if ok && string(got) != s {
			t.Errorf("%.20q became %.20q", s, got)
		}
	}
}

// The examples of MQTT 5.0 §4.7.1.2, §4.7.1.3 and §4.7.2, and the corners around them.
func TestFilterMatch(t *testing.T) {
	for _, c := range []struct {
		filter  Filter
		matches string
		not     string
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1 sport/tennis/player1/ranking sport/tennis/player1/score/wimbledon", "sport/tennis sport/tennis/player2 sport/tennis/player10"},
		{"sport/#", "sport sport/ sport/a/b", "sports Sport /sport"},
		{"#", "a / /a a/b/c", "$SYS $SYS/monitor/Clients"},
		{"sport/tennis/+", "sport/tennis/player1 sport/tennis/", "sport/tennis sport/tennis/player1/ranking"},
		{"sport/+", "sport/", "sport"},
		{"+/+", "/finance a/b /", "finance /a/b $SYS/x"},
		{"/+", "/finance", "finance"},
		{"+", "finance", "/finance $SYS"},
		{"+/monitor/Clients", "a/monitor/Clients", "$SYS/monitor/Clients"},
		{"$SYS/#", "$SYS $SYS/ $SYS/monitor", "a"},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", "$SYS/monitor"},
		{"+/#", "a a/b /", "$a"},
		{"a//b", "a//b", "a/b a/x/b"},
		{"a/+/b", "a//b a/x/b", "a/b a/x/y/b"},
		{"a/", "a/", "a a//"},
		{"a/+/#", "a/b a/ a/b/c", "a"},
	} {
		for topic := range strings.FieldsSeq(c.matches) {
			if !c.filter.Match(Topic(topic)) {
				t.Errorf("%q does not match %q", c.filter, topic)
			}
		}
		for topic := range strings.FieldsSeq(c.not) {
			if c.filter.Match(Topic(topic)) {
				t.Errorf("%q matches %q", c.filter, topic)
			}
		}
		if got := c.filter.Wild(); got != strings.ContainsAny(string(c.filter), "+#") {
			t.Errorf("Wild of %q is %t", c.filter, got)
		}
	}
	if n := testing.AllocsPerRun(10, func() { Filter("a/+/#").Match("a/b/c/d") }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		f, g Filter
		want bool
	}{
		{"#", "#", true},
		{"#", "a/+/b/#", true},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a/#", true},
		{"a/#", "a", true},
		{"a/#", "a/#", true},
		{"a/#", "a/b/+", true},
		{"a/+", "a/b", true},
		{"a/+", "a/+", true},
		{"a/+", "a/#", false},
		{"a/b", "a/+", false},
		{"a/+", "a/b/c", false},
		{"a/+/c", "a/b", false},
		{"a", "b", false},
		{"a", "a/b", false},
	} {
		if got := c.f.Covers(c.g); got != c.want {
			t.Errorf("%q covers %q: %t, want %t", c.f, c.g, got, c.want)
		}
	}
}

// A rule that covers a filter lets through all that the filter selects: if not, a subscription would
// get what no rule allows.
func TestCoversImpliesMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	covered := 0
	for range seeds(300_000) {
		f, g, topic := randomFilter(r), randomFilter(r), randomTopic(r)
		if !f.Covers(g) {
			continue
		}
		covered++
		if g.Match(topic) && !f.Match(topic) {
			t.Fatalf("%q covers %q, which alone matches %q", f, g, topic)
		}
	}
	if covered == 0 {
		t.Fatal("no filter covered another")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a/b", "a/+", "#")
	f.Add("$x", "$x/#", "+/#")
	f.Add("a\x00", "a#", "\xff")
	f.Fuzz(func(t *testing.T, topic, first, second string) {
		top, err := ParseTopic(topic)
		if bad := topic == "" || len(topic) > MaxTopicBytes || !utf8.ValidString(topic) || strings.ContainsAny(topic, "\x00+#"); bad != (err != nil) {
			t.Fatalf("topic %q: %v", topic, err)
		}
		if err == nil {
			if flt, ferr := ParseFilter(topic); ferr != nil || !flt.Match(top) || !flt.Covers(flt) || flt.Wild() {
				t.Fatalf("topic %q is no filter of itself: %v", topic, ferr)
			}
		}
		a, errA := ParseFilter(first)
		b, errB := ParseFilter(second)
		if errA == nil && errB == nil && err == nil && a.Covers(b) && b.Match(top) && !a.Match(top) {
			t.Fatalf("%q covers %q, which alone matches %q", a, b, top)
		}
		for _, e := range []error{err, errA, errB} {
			if e != nil && (ProblemOf(e) == nil || !utf8.ValidString(e.Error())) {
				t.Fatalf("an error to show: %q", e)
			}
		}
	})
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		topic         Topic
		device, group string
	}{
		{"device/lamp1/in", "lamp1", ""},
		{"device/lamp1/in/set/x", "lamp1", ""},
		{"device/lamp1/in/", "lamp1", ""},
		{"group/hall/in/set", "", "hall"},
		{"device/lamp1/out/state", "", ""},
		{"device/lamp1/inn", "", ""},
		{"device/lamp1", "", ""},
		{"device", "", ""},
		{"xdevice/lamp1/in", "", ""},
		{"group/hall", "", ""},
		{"a/device/lamp1/in", "", ""},
	} {
		device, isDevice := c.topic.Device()
		group, isGroup := c.topic.Group()
		if device != c.device || group != c.group || isDevice != (device != "") || isGroup != (group != "") {
			t.Errorf("%q addresses device %q (%t), group %q (%t)", c.topic, device, isDevice, group, isGroup)
		}
		if isDevice != (device != "" && InboxOf(device).Match(c.topic)) || isGroup != (group != "" && GroupInbox(group).Match(c.topic)) {
			t.Errorf("the inbox disagrees about %q", c.topic)
		}
	}
	id := ID{Epoch: NewEpoch(1), Seq: 5}
	receipt := ReceiptTopic("app", id)
	if !ReceiptsOf("app").Match(receipt) || ReceiptsOf("ap").Match(receipt) || !receipt.Reserved() {
		t.Errorf("receipts of app are announced on %q", receipt)
	}
	if !OutboxOf("lamp1").Match("device/lamp1/out/state") || OutboxOf("lamp1").Match("device/lamp2/out/state") {
		t.Error("the outbox of lamp1 is wrong")
	}
	for _, f := range []Filter{InboxOf("a"), OutboxOf("a"), GroupInbox("a"), ReceiptsOf("a"), Filter(receipt)} {
		if _, err := ParseFilter(string(f)); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "0": true, "Lamp-1_b.c:d": true, strings.Repeat("x", 64): true,
		"": false, "-a": false, ".": false, "..": false, "_a": false, ":": false, "a b": false, "a/b": false, "a+": false, "é": false, "a\x00": false, "a\n": false,
		strings.Repeat("x", 65): false,
	} {
		code := ""
		if !ok {
			code = CodeBadName
		}
		wantCode(t, name, CheckName("device id", name), code)
	}
}
