package torture

import (
	"strings"
	"testing"
)

// TestLedgerNotices shows the checker one broken promise of each kind; a checker that cannot fail
// would let every test here pass.
func TestLedgerNotices(t *testing.T) {
	t.Parallel()
	at := func(id string, seq uint64, attempt int, name string) delivery {
		return delivery{ID: id, Seq: seq, Attempt: attempt, Topic: "device/d0/in/x", Text: payloadOf(name, 20)}
	}
	one, two := at("e-1", 1, 1, "one"), at("e-2", 2, 1, "two")
	altered := two
	altered.Text = altered.Text[:len(altered.Text)-1] + "!"
	for _, c := range []struct {
		what string
		life int
		list []delivery
		sub  string
		want string
	}{
		{"all well", 0, []delivery{one, two}, "device/d0", ""},
		{"a flagged repetition", 0, []delivery{one, two, at("e-1", 1, 2, "one")}, "device/d0", ""},
		{"a repetition over a power cut", unsure, []delivery{one, two, two}, "device/d0", ""},
		{"a loss", 0, []delivery{one}, "device/d0", "never received e-2"},
		{"an unflagged repetition", 0, []delivery{one, two, two}, "device/d0", "twice"},
		{"a wrong order", 0, []delivery{two, one}, "device/d0", "both first attempts"},
		{"an altered payload", 0, []delivery{one, altered}, "device/d0", "nobody sent"},
		{"an altered payload over a power cut", unsure, []delivery{one, altered}, "device/d0", "nobody sent"},
		{"another id", 0, []delivery{one, two, at("e-3", 3, 1, "two")}, "device/d0", "e-3"},
		{"a wrong receiver", 0, []delivery{one, two}, "device/d1", "not for it"},
		{"half a batch", 0, []delivery{one, two, at("e-4", 4, 1, "b1")}, "device/d0", "of the batch b with 2 messages 1 were stored"},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "-"), func(t *testing.T) {
			l := newLedger(hall)
			for i, name := range []string{"one", "two"} {
				l.try(name, "device/d0/in/x", 20, "")
				l.ack(0, name, stored{ID: []string{"e-1", "e-2"}[i], Seq: uint64(i + 1)})
			}
			l.try("b1", "device/d0/in/x", 20, "b")
			l.try("b2", "device/d0/in/x", 20, "b")
			for _, d := range c.list {
				l.receive(c.life, c.sub, d)
			}
			got := strings.Join(append(l.missing(), l.check()...), "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("the checker said %q, want %q", got, c.want)
			}
		})
	}
	l := newLedger(hall)
	for i, name := range []string{"later", "earlier"} {
		l.try(name, "device/d0/in/x", 1, "")
		l.ack(0, name, stored{ID: name, Seq: uint64(9 - i)})
	}
	if got := strings.Join(l.check(), "; "); !strings.Contains(got, "stored earlier") {
		t.Errorf("the checker did not see a wrong order of storage: %q", got)
	}
}
