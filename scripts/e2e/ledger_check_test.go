package e2e

import (
	"strings"
	"testing"
)

// TestLedgerNotices shows the checker one broken promise of each kind; a checker that cannot fail
// would let kill -9 lose everything.
func TestLedgerNotices(t *testing.T) {
	who := func(topic string) []string { return []string{strings.TrimPrefix(topic, "to/")} }
	at := func(id string, seq uint64, attempt int, payload string) delivery {
		return delivery{ID: id, Seq: seq, Attempt: attempt, Topic: "to/a", Text: payload}
	}
	fill := func(l *ledger) {
		for i, p := range []string{"one", "two"} {
			l.try("to/a", p)
			l.ack("to/a", p, stored{ID: "e-" + p, Seq: uint64(i + 1)})
		}
	}
	one, two := at("e-one", 1, 1, "one"), at("e-two", 2, 1, "two")
	for _, c := range []struct {
		what string
		list []delivery
		sub  string
		want string
	}{
		{"all well", []delivery{one, two}, "a", ""},
		{"a flagged repetition", []delivery{one, two, at("e-one", 1, 2, "one")}, "a", ""},
		{"a loss", []delivery{one}, "a", "never received e-two"},
		{"an unflagged repetition", []delivery{one, two, two}, "a", "twice"},
		{"a wrong order", []delivery{two, one}, "a", "both first attempts"},
		{"an altered payload", []delivery{one, at("e-two", 2, 1, "twO")}, "a", "nobody sent"},
		{"another id", []delivery{one, two, at("e-three", 3, 1, "two")}, "a", "stored twice"},
		{"a wrong receiver", []delivery{one, two}, "b", "not for it"},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := newLedger()
			fill(l)
			for _, d := range c.list {
				l.receive(c.sub, d)
			}
			got := strings.Join(l.check(who), "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("the checker said %q, want %q", got, c.want)
			}
		})
	}
	l := newLedger()
	fill(l)
	l.ack("to/a", "one", stored{ID: "e-one", Seq: 1})
	if got := strings.Join(l.check(who), "; "); !strings.Contains(got, "published after 2") {
		t.Errorf("the checker did not see a wrong order of storage: %q", got)
	}
}
