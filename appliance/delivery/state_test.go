package delivery

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func fixed(window, attempts int) Policy {
	return Policy{Window: window, MaxAttempts: attempts, Backoff: Backoff{Base: time.Minute, Max: 10 * time.Minute}}
}

// owing returns an open State that owes 1…n in the normal lane.
func owing(p Policy, n uint64) *State {
	s := New(p)
	for seq := range n {
		s.Owe(seq+1, false)
	}
	s.Open(0)
	return s
}

// sendAll sends what there is and returns it.
func sendAll(s *State, now, deadline time.Time) (sent []Candidate) {
	for c, ok := s.Next(now); ok; c, ok = s.Next(now) {
		s.Sent(c.Seq, now, deadline)
		sent = append(sent, c)
	}
	return sent
}

func seqsOf(sent []Candidate) (seqs []uint64) {
	for _, c := range sent {
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

func wantSeqs(t *testing.T, what string, sent []Candidate, want ...uint64) {
	t.Helper()
	if got := seqsOf(sent); !slices.Equal(got, want) {
		t.Fatalf("%s: sent %v, want %v", what, got, want)
	}
}

func TestUrgentGoesAheadOfTheBacklog(t *testing.T) {
	s := owing(fixed(2, 8), 5)
	wantSeqs(t, "a window", sendAll(s, noon, time.Time{}), 1, 2)
	s.Owe(6, true)
	s.Owe(7, true)
	s.Owe(6, false) // it stays in its lane
	if s.Depth() != 7 {
		t.Fatalf("owes %d, want 7", s.Depth())
	}
	s.Ack(1)
	s.Ack(2)
	wantSeqs(t, "urgent first", sendAll(s, noon, time.Time{}), 6, 7)
	s.Ack(6)
	s.Ack(7)
	wantSeqs(t, "then the backlog", sendAll(s, noon, time.Time{}), 3, 4)
}

// Eight dropped Wi-Fi links must not kill a backlog.
func TestLostLinksAreNoAttempts(t *testing.T) {
	s := owing(fixed(3, 2), 3)
	for attempt := 1; attempt <= 20; attempt++ {
		sent := sendAll(s, noon, noon.Add(time.Minute))
		wantSeqs(t, "every link", sent, 1, 2, 3)
		if sent[0].Attempt != attempt {
			t.Fatalf("attempt %d is called %d", attempt, sent[0].Attempt)
		}
		if attempt%2 == 0 {
			s.Close()
			if s.InFlight() != 0 || s.Depth() != 3 {
				t.Fatalf("%d in flight, %d owed without a link", s.InFlight(), s.Depth())
			}
		}
		s.Open(0) // also without a Close: a newer link takes over
	}
	if sends, fails := s.Attempts(1); sends != 20 || fails != 0 {
		t.Fatalf("%d sends, %d fails", sends, fails)
	}
}

func TestNackBacksOffAndExhausts(t *testing.T) {
	s := owing(fixed(1, 5), 1)
	now := noon
	for i, wait := range []time.Duration{1, 2, 4, 8} {
		wantSeqs(t, "due", sendAll(s, now, time.Time{}), 1)
		if v := s.Nack(1, now, 0); v != Retry {
			t.Fatalf("nack %d: %v", i+1, v)
		}
		at, ok := s.RetryDue(1)
		if wake, has := s.Wake(); !ok || !has || !at.Equal(now.Add(wait*time.Minute)) || !wake.Equal(at) {
			t.Fatalf("nack %d: due %v, want in %v", i+1, at, wait*time.Minute)
		}
		if _, ok := s.Next(at.Add(-1)); ok {
			t.Fatal("it comes before it is due")
		}
		now = at
	}
	wantSeqs(t, "the last attempt", sendAll(s, now, time.Time{}), 1)
	if v := s.Nack(1, now, 0); v != Exhausted || s.Depth() != 0 || s.Owes(1) {
		t.Fatalf("the last nack: %v, owes %d", v, s.Depth())
	}
	if v := s.Nack(1, now, 0); v != Ignored {
		t.Fatalf("a nack after the end: %v", v)
	}
}

func TestNackedBlocksNobodyAndGoesFirstWhenDue(t *testing.T) {
	s := owing(fixed(2, 8), 6)
	sendAll(s, noon, time.Time{})
	s.Nack(1, noon, 5*time.Second)
	wantSeqs(t, "the others go on", sendAll(s, noon, time.Time{}), 3)
	s.Ack(2)
	s.Ack(3)
	s.Owe(7, true)
	wantSeqs(t, "due before urgent", sendAll(s, noon.Add(5*time.Second), time.Time{}), 1, 7)
}

// A nack's delay holds over a new link.
func TestRetryOutlivesTheLink(t *testing.T) {
	s := owing(fixed(2, 8), 2)
	sendAll(s, noon, time.Time{})
	s.Nack(1, noon, time.Hour)
	s.Close()
	if _, ok := s.Wake(); ok {
		t.Fatal("a State without a link wants to be woken")
	}
	s.Open(0)
	wantSeqs(t, "a new link", sendAll(s, noon, time.Time{}), 2)
	sent := sendAll(s, noon.Add(time.Hour), time.Time{})
	wantSeqs(t, "when due", sent, 1)
	if sent[0].Attempt != 2 {
		t.Fatalf("attempt %d, want 2", sent[0].Attempt)
	}
}

// What is acknowledged in time costs one early wake, after which the next deadline is known exactly.
func TestWakeAfterAcks(t *testing.T) {
	s := owing(fixed(4, 8), 3)
	for seq := range uint64(3) {
		s.Sent(seq+1, noon, noon.Add(time.Duration(seq+1)*time.Minute))
	}
	s.Ack(1)
	none := func(seq uint64, v Verdict) { t.Errorf("%d: %v", seq, v) }
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute} {
		if at, ok := s.Wake(); !ok || !at.Equal(noon.Add(want)) {
			t.Fatalf("%d: wake at %v, %t", i, at, ok)
		}
		if i == 0 {
			s.Timeouts(noon.Add(want), none)
		}
	}
	s.Ack(2)
	s.Ack(3)
	if at, ok := s.Wake(); ok {
		t.Fatalf("nothing is in flight, and it wakes at %v", at)
	}
}

func TestLeasesTimeOut(t *testing.T) {
	s := owing(Policy{Window: 10, MaxAttempts: 2, Backoff: Backoff{Base: 1, Max: 1}}, 3)
	sendAll(s, noon, noon.Add(30*time.Second))
	s.Ack(2)
	if s.Sent(3, noon, noon.Add(60*time.Second)); s.InFlight() != 2 { // a lease made longer
		t.Fatalf("%d in flight", s.InFlight())
	}
	got := map[uint64]Verdict{}
	note := func(seq uint64, v Verdict) { got[seq] = v }
	if at, ok := s.Wake(); !ok || !at.Equal(noon.Add(30*time.Second)) {
		t.Fatalf("wake at %v", at)
	}
	s.Timeouts(noon.Add(30*time.Second), note)
	if len(got) != 1 || got[1] != Retry {
		t.Fatalf("after 30 s: %v", got)
	}
	if s.Ack(1) != 0 {
		t.Fatal("an ack after the lease ended is taken")
	}
	wantSeqs(t, "again", sendAll(s, noon.Add(31*time.Second), noon.Add(50*time.Second)), 1)
	s.Timeouts(noon.Add(time.Minute), note)
	if got[1] != Exhausted || got[3] != Retry || s.Depth() != 1 {
		t.Fatalf("after a minute: %v, owes %d", got, s.Depth())
	}
}

func TestCancel(t *testing.T) {
	s := owing(fixed(4, 8), 6)
	sendAll(s, noon, noon.Add(time.Second))
	if s.Cancel(99) || !s.Cancel(5) || s.Cancel(5) {
		t.Fatal("only what is owed and not in flight ends at once")
	}
	for seq := uint64(1); seq <= 4; seq++ {
		if s.Cancel(seq) {
			t.Fatalf("%d is in flight and ends at once", seq)
		}
	}
	if s.Ack(1) == 0 {
		t.Fatal("an ack of what is cancelled is refused")
	}
	if v := s.Nack(2, noon, 0); v != Withdrawn {
		t.Fatalf("nack of what is cancelled: %v", v)
	}
	s.Timeouts(noon.Add(time.Second), func(seq uint64, v Verdict) {
		if v != Withdrawn {
			t.Fatalf("timeout of %d: %v", seq, v)
		}
	})
	if got := s.Withdrawn(); !slices.Equal(got, []uint64{2, 3, 4}) || s.Withdrawn() != nil {
		t.Fatalf("withdrawn %v", got)
	}
	sendAll(s, noon, time.Time{})
	s.Cancel(6)
	s.Close()
	if got := s.Withdrawn(); !slices.Equal(got, []uint64{6}) || s.Depth() != 0 {
		t.Fatalf("withdrawn %v, owes %d", got, s.Depth())
	}
}

func TestWindows(t *testing.T) {
	s := owing(Policy{}, 100)
	if n := len(sendAll(s, noon, time.Time{})); n != DefaultWindow {
		t.Fatalf("%d in flight, want the default", n)
	}
	s.SetPolicy(Policy{Window: 10})
	if s.Ack(1); s.InFlight() != 63 || s.Window() != 10 {
		t.Fatalf("%d in flight, window %d", s.InFlight(), s.Window())
	}
	if _, ok := s.Next(noon); ok {
		t.Fatal("a smaller window lets more through")
	}
	s.Open(5)
	wantSeqs(t, "the link's window", sendAll(s, noon, time.Time{}), 2, 3, 4, 5, 6)
	s.Sent(50, noon, time.Time{})
	if s.InFlight() != 5 || s.Ack(50) != 0 {
		t.Fatal("Sent brings more in flight than the window")
	}
	s.Close()
	s.Sent(2, noon, time.Time{})
	if _, ok := s.Next(noon); ok || s.InFlight() != 0 {
		t.Fatal("something moves without a link")
	}
}

// Who refuses everything is not sent everything.
func TestManyRetriesHoldTheRestBack(t *testing.T) {
	s := owing(fixed(100, 8), 5000)
	sent := 0
	for {
		got := sendAll(s, noon, time.Time{})
		if len(got) == 0 {
			break
		}
		sent += len(got)
		for _, c := range got {
			s.Nack(c.Seq, noon, time.Minute)
		}
		s.check(t)
	}
	if sent < retryRoom || sent > retryRoom+100 {
		t.Fatalf("%d were sent, want %d to %d", sent, retryRoom, retryRoom+100)
	}
	later := noon.Add(time.Minute)
	for n := 0; n < 5000; {
		got := sendAll(s, later, time.Time{})
		if len(got) == 0 {
			t.Fatalf("stuck after %d", n)
		}
		for _, c := range got {
			if s.Ack(c.Seq); c.Seq != uint64(n+1) {
				t.Fatalf("%d comes as number %d", c.Seq, n)
			}
			n++
		}
	}
}

// One message that is never answered must not make the timers of all others pile up behind it.
func TestTimersDoNotPileUp(t *testing.T) {
	s := owing(fixed(3, 8), 10_000)
	s.Sent(1, noon, noon.Add(time.Second))
	s.Sent(2, noon, time.Time{})
	s.Nack(2, noon, time.Second)
	now := noon
	for n := range 9_000 {
		now = now.Add(time.Microsecond)
		c, ok := s.Next(now)
		if !ok {
			t.Fatalf("stuck after %d", n)
		}
		s.Sent(c.Seq, now, now.Add(time.Minute))
		if n%2 == 0 {
			s.Ack(c.Seq)
		} else {
			s.Nack(c.Seq, now, time.Hour)
			s.Drop(c.Seq)
		}
		if n%100 == 0 {
			s.check(t)
		}
	}
	if r := len(s.live.retries); r > 100 {
		t.Fatalf("%d retries for one message", r)
	}
	if at, ok := s.Wake(); !ok || !at.Equal(noon.Add(time.Second)) {
		t.Fatalf("wake at %v, %t", at, ok)
	}
	s.Timeouts(noon.Add(time.Second), func(seq uint64, v Verdict) {
		if seq != 1 || v != Retry {
			t.Fatalf("%d: %v", seq, v)
		}
	})
	wantSeqs(t, "the other", sendAll(s, noon.Add(time.Second), time.Time{})[:1], 2)
}

func TestMaybeSent(t *testing.T) {
	s := New(fixed(10, 8))
	for seq := uint64(10); seq < 16; seq++ {
		s.Owe(seq, seq == 13)
	}
	s.MaybeSent(2)
	s, _, err := Decode(fixed(10, 8), s.AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	s.Open(0)
	sent := sendAll(s, noon, time.Time{})
	wantSeqs(t, "all", sent, 13, 10, 11, 12, 14, 15)
	for i, want := range []int{2, 2, 2, 1, 1, 1} {
		if sent[i].Attempt != want {
			t.Fatalf("%d has attempt %d, want %d", sent[i].Seq, sent[i].Attempt, want)
		}
	}
}

// What was sent before a snapshot is flagged when it comes again after a crash.
func TestSentIsFlaggedAfterRestart(t *testing.T) {
	s := owing(fixed(2, 8), 4)
	sendAll(s, noon, time.Time{})
	s.Nack(1, noon, time.Hour)
	s, _, err := Decode(fixed(9, 8), s.AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	if sends, fails := s.Attempts(1); sends != 1 || fails != 1 {
		t.Fatalf("%d sends, %d fails", sends, fails)
	}
	s.Open(0)
	sent := sendAll(s, noon, time.Time{})
	wantSeqs(t, "all", sent, 1, 2, 3, 4)
	if sent[0].Attempt != 2 || sent[1].Attempt != 2 || sent[2].Attempt != 1 {
		t.Fatalf("attempts are %+v", sent)
	}
}

// The wall clock may jump from 1970 to 2026; deadlines follow the monotonic clock that time.Now reads.
func TestDeadlinesKeepTheMonotonicClock(t *testing.T) {
	s := owing(fixed(1, 8), 1)
	now := time.Now()
	s.Sent(1, now, now.Add(time.Minute))
	if at, ok := s.Wake(); !ok || at.Sub(now) != time.Minute || at == at.Round(0) {
		t.Fatalf("wake at %v has lost the monotonic reading of %v", at, now)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{Base: 3 * time.Second, Max: 20 * time.Second}
	for fails, want := range []time.Duration{3, 3, 6, 12, 20, 20} {
		if got := b.Delay(fails); got != want*time.Second {
			t.Errorf("after %d failures %v, want %v", fails, got, want*time.Second)
		}
	}
	if got := (Backoff{}).Delay(1); got != DefaultBase {
		t.Errorf("the default is %v", got)
	}
	if got := (Backoff{}).Delay(1000); got != DefaultMax {
		t.Errorf("the longest default is %v", got)
	}
	if got := (Backoff{Base: 1, Max: 1<<63 - 1}).Delay(100); got != 1<<63-1 {
		t.Errorf("the longest of all is %v", got)
	}
	b.Jitter = func(n int64) int64 { return n / 3 }
	if got := b.Delay(3); got != 4*time.Second {
		t.Errorf("with jitter %v, want 4s", got)
	}
}

func TestNeverGivesUp(t *testing.T) {
	s := owing(fixed(1, -1), 1)
	now := noon
	for range 70_000 {
		now = now.Add(time.Hour)
		c, ok := s.Next(now)
		if !ok {
			t.Fatal("given up")
		}
		s.Sent(c.Seq, now, time.Time{})
		s.Nack(c.Seq, now, 0)
	}
	if sends, fails := s.Attempts(1); sends != 65_535 || fails != 65_535 {
		t.Fatalf("%d sends, %d fails", sends, fails)
	}
}

func TestVerdictNames(t *testing.T) {
	for v, want := range map[Verdict]string{Ignored: "ignored", Retry: "retry", Exhausted: "exhausted", Withdrawn: "withdrawn"} {
		if v.String() != want {
			t.Errorf("%d is %q, want %q", v, v, want)
		}
	}
}

func TestEachStops(t *testing.T) {
	s := New(Policy{})
	s.Owe(1, false)
	s.Owe(3, false)
	s.Owe(4, true)
	var got []uint64
	s.Each(0, MaxSeq, func(first, _ uint64) bool {
		got = append(got, first)
		return first != 3
	})
	if !slices.Equal(got, []uint64{1, 3}) {
		t.Fatalf("visited %v", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	s := New(Policy{})
	s.Owe(7, false)
	good := s.AppendBinary(nil) // 01, 01 07, 00, 00, 00, 00
	for name, b := range map[string][]byte{
		"nothing":                {},
		"another version":        append([]byte{9}, good[1:]...),
		"cut short":              good[:len(good)-1],
		"in both lanes":          {1, 1, 7, 0, 1, 7, 0, 0},
		"failure of nothing":     {1, 1, 7, 0, 0, 0, 1, 8, 1},
		"failure without number": {1, 1, 7, 0, 0, 0, 1, 7, 0},
		"too many failures":      {1, 1, 7, 0, 0, 0, 1, 7, 0xff, 0xff, 0x7f},
		"the same failure twice": {1, 1, 7, 0, 0, 0, 2, 7, 1, 0, 1},
		"fewer than announced":   {1, 1, 7, 0, 0, 0, 2, 7, 1},
		"a mark out of range":    {1, 1, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0},
	} {
		if _, _, err := Decode(Policy{}, b); err == nil {
			t.Errorf("%s: %x was read", name, b)
		}
	}
	if _, rest, err := Decode(Policy{}, append(good, 5)); err != nil || !bytes.Equal(rest, []byte{5}) {
		t.Errorf("%x: %v", good, err)
	}
}

func FuzzStateDecode(f *testing.F) {
	s := owing(fixed(4, 8), 300)
	f.Add(New(Policy{}).AppendBinary(nil))
	f.Add(s.AppendBinary(nil))
	s.Owe(400, true)
	sendAll(s, noon, time.Time{})
	s.Nack(2, noon, 0)
	s.Nack(400, noon, 0)
	f.Add(s.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := Decode(fixed(8, 8), b)
		if err != nil {
			return
		}
		s.check(t)
		enc := s.AppendBinary(nil)
		again, none, err := Decode(fixed(8, 8), enc)
		if err != nil || len(none) != 0 || !bytes.Equal(again.AppendBinary(nil), enc) {
			t.Fatalf("%x was written as %x: %v", b[:len(b)-len(rest)], enc, err)
		}
		s.Open(0)
		depth := s.Depth()
		for _, c := range sendAll(s, noon, noon.Add(time.Second)) {
			if s.Ack(c.Seq) == 0 {
				t.Fatalf("%d cannot be acknowledged", c.Seq)
			}
			depth--
		}
		if s.check(t); s.Depth() != depth {
			t.Fatalf("%d left, want %d", s.Depth(), depth)
		}
	})
}
