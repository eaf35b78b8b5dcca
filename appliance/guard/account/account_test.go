package account

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"edgepost/appliance/message"
)

// book is the in-memory Users of the tests.
type book struct {
	mu     sync.Mutex
	hashes map[string]string
}

func (b *book) Password(name string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, ok := b.hashes[name]
	return h, ok
}

func (b *book) SetPassword(_ context.Context, name, hash string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hashes[name] = hash
	return nil
}

var lan = netip.MustParseAddr("192.168.1.7")

// newDesk makes a desk at which ann has a password, and a clock.
func newDesk(t *testing.T) (*Desk, *book, *time.Time) {
	t.Helper()
	now := time.Unix(1_800_000_000, 0)
	b := &book{hashes: map[string]string{}}
	d := New(b, func() time.Time { return now })
	hash, err := d.Hash(t.Context(), "ann", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	b.hashes["ann"] = hash
	return d, b, &now
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if p := message.ProblemOf(err); p == nil || p.Code != code {
		t.Errorf("error %v, want a problem %q", err, code)
	}
}

func TestSignIn(t *testing.T) {
	d, b, now := newDesk(t)
	if h := b.hashes["ann"]; !strings.HasPrefix(h, "$argon2id$v=19$m=7168,t=5,p=1$") || strings.Contains(h, "horse") {
		t.Errorf("hash %q", h)
	}
	id, err := d.SignIn(t.Context(), "ann", "correct horse", lan)
	if err != nil || len(id) != 43 {
		t.Fatalf("%q, %v", id, err)
	}
	if user, ok := d.Sessions().User(id); !ok || user != "ann" {
		t.Errorf("%q, %v", user, ok)
	}
	_, e1 := d.SignIn(t.Context(), "ann", "wrong horse", lan)
	_, e2 := d.SignIn(t.Context(), "nobody", "correct horse", lan)
	_, e3 := d.SignIn(t.Context(), "no/name", "correct horse", lan)
	_, e4 := d.SignIn(t.Context(), "ann", strings.Repeat("x", maxPassword+1), lan)
	for _, err := range []error{e1, e2, e3, e4} {
		wantCode(t, err, message.CodeUnauthorized)
		if err.Error() != e1.Error() {
			t.Errorf("%q tells more than %q", err, e1)
		}
	}
	*now = now.Add(time.Hour)
	if _, ok := d.Sessions().User(id); ok {
		t.Error("the session never ends")
	}
}

func TestGuessingIsSlowedAndNobodyIsLockedOut(t *testing.T) {
	d, _, now := newDesk(t)
	guess := func(from netip.Addr) error {
		_, err := d.SignIn(t.Context(), "ann", "wrong horse", from)
		return err
	}
	for range 5 {
		wantCode(t, guess(lan), message.CodeUnauthorized)
	}
	wantCode(t, guess(lan), message.CodeTooMany)
	_, err := d.SignIn(t.Context(), "ann", "correct horse", lan) // not even looked at
	wantCode(t, err, message.CodeTooMany)
	if _, err := d.SignIn(t.Context(), "ann", "correct horse", netip.MustParseAddr("192.168.1.8")); err != nil {
		t.Errorf("ann is locked out elsewhere: %v", err)
	}
	tried := 0
	for end := now.Add(24 * time.Hour); now.Before(end); *now = now.Add(time.Second) {
		if p := message.ProblemOf(guess(lan)); p != nil && p.Code == message.CodeUnauthorized {
			tried++
		}
	}
	if tried > 120 || tried < 90 { // every 15 minutes in the end
		t.Errorf("%d guesses in a day", tried)
	}
	*now = now.Add(time.Hour)
	if _, err := d.SignIn(t.Context(), "ann", "correct horse", lan); err != nil {
		t.Errorf("after an hour of silence: %v", err)
	}
}

func TestSetupCode(t *testing.T) {
	d, _, now := newDesk(t)
	wantCode(t, d.CheckCode("", lan), message.CodeUnauthorized) // none was made
	old := d.NewCode()
	code := d.NewCode()
	wantCode(t, d.CheckCode(old, lan), message.CodeUnauthorized)
	if err := d.CheckCode(" "+strings.ToLower(strings.ReplaceAll(code, "-", " ")), lan); err != nil || len(code) != 9 {
		t.Errorf("%q: %v", code, err)
	}
	for range 5 {
		wantCode(t, d.CheckCode("BCDF-BCDF", lan), message.CodeUnauthorized)
	}
	wantCode(t, d.CheckCode(code, lan), message.CodeTooMany)
	*now = now.Add(time.Hour)
	if err := d.CheckCode(code, lan); err != nil {
		t.Error(err)
	}
	d.EndCode()
	wantCode(t, d.CheckCode(code, lan), message.CodeUnauthorized)
}

func TestClaimGuessing(t *testing.T) {
	d, _, _ := newDesk(t)
	for range 5 {
		if _, err := d.Guess(lan); err != nil {
			t.Fatal(err)
		}
	}
	_, err := d.Guess(lan)
	wantCode(t, err, message.CodeTooMany)
	right, err := d.Guess(netip.MustParseAddr("192.168.1.8"))
	if err != nil {
		t.Fatal(err)
	}
	right()
}

func TestEasyPasswords(t *testing.T) {
	d, _, _ := newDesk(t)
	for _, bad := range []string{"", "short", "1234567", "Password", "aaaaaaaaaa", "12345678", "ann-the-first", "\xff\xffabcdefgh", strings.Repeat("xy", 200)} {
		_, err := d.Hash(t.Context(), "Ann-The-First", bad)
		wantCode(t, err, message.CodeBadRequest)
	}
}

func TestOneHashAtATimeAndFourWait(t *testing.T) {
	h := newHashing()
	leave, err := h.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range maxWaiting {
		h.queue <- struct{}{} // who waits
	}
	_, err = h.enter(t.Context())
	wantCode(t, err, message.CodeTooMany)
	for range maxWaiting {
		<-h.queue
	}
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		if _, err := h.enter(ctx); err == nil {
			t.Error("two hashes at a time")
		}
	})
	cancel()
	all.Wait()
	leave()
	if leave, err = h.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	leave()
	if len(h.queue) != 0 {
		t.Errorf("%d still in the queue", len(h.queue))
	}
}

func TestOldHashIsRenewed(t *testing.T) {
	d, b, _ := newDesk(t)
	// $argon2id of "correct horse" with weaker parameters, as an earlier version might have made it.
	p := phc{memory: 64, time: 1, threads: 1, salt: []byte("0123456789abcdef")}
	weak, err := rehash(p, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	b.hashes["ann"] = weak
	if _, err := d.SignIn(t.Context(), "ann", "correct horse", lan); err != nil {
		t.Fatal(err)
	}
	if h := b.hashes["ann"]; h == weak || !strings.Contains(h, "m=7168") {
		t.Errorf("the hash is still %q", h)
	}
	if _, err := d.SignIn(t.Context(), "ann", "correct horse", lan); err != nil {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := NewSessions(func() time.Time { return now })
	id := s.Open("ann")
	if _, ok := s.User(id + "x"); ok {
		t.Error("a wrong id is a session")
	}
	for range 24 * 2 { // used every 29 minutes it still ends after 12 hours
		now = now.Add(29 * time.Minute)
		s.User(id)
	}
	if _, ok := s.User(id); ok || s.Left(id) != 0 {
		t.Error("a session lasts for ever")
	}
	if got := s.Sweep(); len(got) != 1 || got[0] != "ann" || len(s.open) != 0 {
		t.Errorf("swept %v", got)
	}
	id, other, bob := s.Open("ann"), s.Open("ann"), s.Open("bob")
	if left := s.Left(id); left != IdleTimeout {
		t.Errorf("%v left", left)
	}
	s.EndOf("ann", id)
	for id, want := range map[string]bool{id: true, other: false, bob: true} {
		if _, ok := s.User(id); ok != want {
			t.Errorf("after EndOf: %v, want %v", ok, want)
		}
	}
	s.End(bob)
	if _, ok := s.User(bob); ok {
		t.Error("ended and still open")
	}
	for range 3 * maxSessionsOfOne {
		s.Open("eve")
	}
	if _, ok := s.User(id); !ok || len(s.open) != maxSessionsOfOne+1 {
		t.Errorf("%d sessions; one user crowds another out", len(s.open))
	}
	for i := range 2 * maxSessions {
		s.Open(strings.Repeat("u", i%60+1))
	}
	if len(s.open) > maxSessions {
		t.Errorf("%d sessions", len(s.open))
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add(nobody)
	f.Add("$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err == nil && (p.String() != s || p.memory > 64<<10 || p.time > 64) {
			t.Fatalf("%q is read as %q", s, p)
		}
	})
}

// rehash makes a hash with the parameters of p.
func rehash(p phc, password string) (string, error) {
	p.key = argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, keyBytes)
	_, err := parsePHC(p.String())
	return p.String(), err
}
