package oauth

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	here  = netip.MustParseAddr("192.168.1.9")
	there = netip.MustParseAddr("192.168.1.10")
)

func waiting(t *testing.T) (*Pending, *time.Time) {
	t.Helper()
	now := time.Unix(1_800_000_000, 0)
	return newPending(func() time.Time { return now }), &now
}

func begin(t *testing.T, p *Pending, client string) Codes {
	t.Helper()
	c, err := p.Begin(client, Scope{}, here)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%v, want %s", err, code)
	}
}

// The device's way: pending, slow_down for who does not wait, granted once.
func TestGrant(t *testing.T) {
	p, now := waiting(t)
	c := begin(t, p, "panel")
	if !regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`).MatchString(c.User) || len(c.Device) < 26 {
		t.Errorf("%+v", c)
	}
	poll := func(after time.Duration, want string) {
		t.Helper()
		*now = now.Add(after)
		_, _, err := p.Poll(c.Device, "panel")
		wantCode(t, err, want)
	}
	poll(5*time.Second, AuthorizationPending)
	poll(4*time.Second, SlowDown)
	poll(9*time.Second, SlowDown) // 10 s by now
	poll(15*time.Second, AuthorizationPending)
	_, _, err := p.Poll(c.Device, "other")
	wantCode(t, err, InvalidGrant)
	_, _, err = p.Poll("x"+c.Device, "panel")
	wantCode(t, err, InvalidGrant)
	if r, ok := p.Find(strings.ToLower(strings.ReplaceAll(c.User, "-", " "))); !ok || r.Client != "panel" || r.From != here || r.Left <= 0 {
		t.Errorf("%+v, %v", r, ok)
	}
	if p.Decide("BBBB-BBBB", Decision{Approved: true}) || !p.Decide(c.User, Decision{Approved: true, By: "user/ann", Keep: true}) || p.Decide(c.User, Decision{}) {
		t.Error("a decision counts for another code, or twice, or not at all")
	}
	if _, ok := p.Find(c.User); ok {
		t.Error("a decided request is shown again")
	}
	r, d, err := p.Poll(c.Device, "panel") // at once: who is granted need not wait
	if err != nil || r.Client != "panel" || !d.Keep || d.By != "user/ann" {
		t.Errorf("%+v, %+v, %v", r, d, err)
	}
	poll(0, InvalidGrant)
}

func TestRefusedAndTooOld(t *testing.T) {
	p, now := waiting(t)
	c := begin(t, p, "panel")
	p.Decide(c.User, Decision{})
	_, _, err := p.Poll(c.Device, "panel")
	wantCode(t, err, AccessDenied)
	c = begin(t, p, "panel")
	*now = now.Add(CodeLife)
	begin(t, p, "another") // does not forget the old one at once
	if _, ok := p.Find(c.User); ok || p.Decide(c.User, Decision{Approved: true}) {
		t.Error("a code is good for longer than it says")
	}
	_, _, err = p.Poll(c.Device, "panel")
	wantCode(t, err, ExpiredToken)
	_, _, err = p.Poll(c.Device, "panel")
	wantCode(t, err, InvalidGrant)
}

func TestPendingIsBounded(t *testing.T) {
	p, now := waiting(t)
	for range maxOfOne {
		begin(t, p, "panel")
	}
	_, err := p.Begin("panel", Scope{}, here)
	wantCode(t, err, TemporarilyUnavailable)
	for n := 0; ; n++ {
		_, err := p.Begin("panel", Scope{}, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}))
		if err != nil {
			if n != maxPending-maxOfOne {
				t.Errorf("%d more are taken", n)
			}
			break
		}
	}
	for range 4 { // those that are too old make room, and do not pile up
		*now = now.Add(CodeLife)
		for n := range maxPending {
			if _, err := p.Begin("panel", Scope{}, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.list) > 2*maxPending {
			t.Errorf("%d requests are kept", len(p.list))
		}
	}
	_, err = p.Begin("panel", Scope{}, there)
	wantCode(t, err, TemporarilyUnavailable)
}
