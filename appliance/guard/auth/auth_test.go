package auth

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// book is the in-memory Directory of the tests.
type book struct {
	mu      sync.RWMutex
	version uint64
	entries map[string]Entry
}

func (b *book) Lookup(name string) (Entry, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, ok := b.entries[name]
	return e, ok
}

func (b *book) LookupToken(hash [32]byte) (Entry, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, e := range b.entries {
		if e.TokenHash == hash {
			return e, true
		}
	}
	return Entry{}, false
}

func (b *book) Version() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.version
}

func (b *book) put(e Entry, token string) {
	e.TokenHash = HashToken(token)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[e.Name] = e
	b.version++
}

func (b *book) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, name)
	b.version++
}

type fakeTime struct{ t time.Time }

func (f *fakeTime) now() time.Time { return f.t }

func fixture(anonymous *message.Rules) (*Authenticator, *book, *fakeTime) {
	b := &book{entries: map[string]Entry{}, version: 1}
	b.put(Entry{Kind: Device, Name: "lamp1", Admin: true, Groups: []string{"hall"}, Rules: message.Rules{
		Publish: []message.Filter{"tele/${device}/#"}, Subscribe: []message.Filter{"cmnd/${device}/#"},
	}}, "ep_lamp")
	b.put(Entry{Kind: Key, Name: "app", Rules: message.Rules{
		Publish: []message.Filter{"device/+/in/#"}, Subscribe: []message.Filter{"#"}, DenySubscribe: []message.Filter{"private/#"},
	}}, "ep_app")
	b.put(Entry{Kind: Key, Name: "root", Admin: true}, "ep_root")
	ft := &fakeTime{time.Unix(1_800_000_000, 0)}
	return New(Options{Directory: b, Anonymous: anonymous, Now: ft.now}), b, ft
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if p := message.ProblemOf(err); p == nil || p.Code != code {
		t.Fatalf("error %v, want a problem %q", err, code)
	}
}

func TestWhoIsWho(t *testing.T) {
	for _, c := range []struct {
		in        Credentials
		principal string
		admin     bool
	}{
		{Credentials{Name: "lamp1", Token: "ep_lamp"}, "device/lamp1", false},
		{Credentials{Token: "ep_lamp"}, "device/lamp1", false},
		{Credentials{Token: "ep_app"}, "key/app", false},
		{Credentials{Name: "root", Token: "ep_root"}, "key/root", true},
		{Credentials{Name: "app", Token: "ep_lamp"}, "", false},
		{Credentials{Name: "nobody", Token: "ep_lamp"}, "", false},
		{Credentials{Name: "lamp1"}, "", false},
		{Credentials{Name: "nobody"}, "", false},
		{Credentials{Token: "ep_no"}, "", false},
		{Credentials{Ticket: "x"}, "", false},
		{Credentials{Name: "lamp1", Token: "ep_no", Ticket: "x"}, "", false},
	} {
		// Anonymous access is open, so falling through after a failure would show.
		a, _, _ := fixture(&message.Rules{Subscribe: []message.Filter{"#"}})
		g, err := a.Authenticate(context.Background(), c.in)
		if c.principal == "" {
			wantCode(t, err, message.CodeUnauthorized)
			continue
		}
		if err != nil || g.Principal() != c.principal || g.Admin != c.admin {
			t.Errorf("%+v: %+v, %v; want %s", c.in, g, err, c.principal)
		}
	}
}

func TestUnknownNameAndWrongTokenLookTheSame(t *testing.T) {
	a, _, _ := fixture(nil)
	_, e1 := a.Authenticate(context.Background(), Credentials{Name: "lamp1", Token: "x"})
	_, e2 := a.Authenticate(context.Background(), Credentials{Name: "nobody", Token: "x"})
	_, e3 := a.Authenticate(context.Background(), Credentials{Token: "x"})
	if e1 == nil || e1.Error() != e2.Error() || e2.Error() != e3.Error() {
		t.Fatalf("%v | %v | %v", e1, e2, e3)
	}
}

func TestAnonymous(t *testing.T) {
	a, _, _ := fixture(nil)
	_, err := a.Authenticate(context.Background(), Credentials{Remote: netip.MustParseAddr("192.168.1.9")})
	wantCode(t, err, message.CodeUnauthorized)
	if _, ok := a.Current("anonymous"); ok {
		t.Fatal("anonymous has a grant although it is not configured")
	}
	a.SetAnonymous(&message.Rules{Publish: []message.Filter{"#"}, Subscribe: []message.Filter{"#"}, DenySubscribe: []message.Filter{"private/#"}})
	g, err := a.Authenticate(context.Background(), Credentials{})
	if err != nil || g.Kind != Anonymous || g.Admin {
		t.Fatalf("%+v, %v", g, err)
	}
	if !g.MayPublish("a/b") || g.MayPublish("$edge/alarm/x") || g.MayReceive("private/x") || !g.MayReceive("device/lamp1/in/set") {
		t.Error("the configured lists do not hold")
	}
	if g.MaySubscribe("$edge/receipt/lamp1/#") || g.MayReceive("$edge/receipt/lamp1/x") {
		t.Error("anonymous reads a device's receipts")
	}
	if g.OwnsInbox("lamp1") || g.OwnsInbox("") {
		t.Error("anonymous owns an inbox")
	}
	a.SetAnonymous(nil)
	if _, ok := a.Current("anonymous"); ok {
		t.Error("anonymous keeps its grant after access was closed")
	}
}

func TestContextGrantCountsOnlyWithoutCredentials(t *testing.T) {
	a, _, _ := fixture(nil)
	ctx := WithGrant(context.Background(), a.Owner())
	if g, err := a.Authenticate(ctx, Credentials{}); err != nil || g.Kind != Owner || !g.Admin {
		t.Fatalf("%+v, %v", g, err)
	}
	if g, err := a.Authenticate(ctx, Credentials{Name: "lamp1", Token: "ep_lamp"}); err != nil || g.Kind != Device {
		t.Fatalf("%+v, %v", g, err)
	}
	_, err := a.Authenticate(ctx, Credentials{Name: "lamp1", Token: "no"})
	wantCode(t, err, message.CodeUnauthorized)
	if _, ok := GrantFrom(WithGrant(ctx, nil)); ok {
		t.Fatal("a nil grant is a grant")
	}
}

func TestDeviceRules(t *testing.T) {
	a, _, _ := fixture(nil)
	g, ok := a.Current("device/lamp1")
	if !ok || !g.OwnsInbox("lamp1") || g.OwnsInbox("lamp2") {
		t.Fatalf("%+v %v", g, ok)
	}
	for topic, want := range map[message.Topic][2]bool{ // publish, receive
		"device/lamp1/out/state":      {true, false},
		"device/lamp2/out/state":      {false, false},
		"device/lamp1/in/set":         {false, true},
		"device/lamp2/in/set":         {false, false},
		"group/hall/in/x":             {false, true},
		"group/attic/in/x":            {false, false},
		"tele/lamp1/LWT":              {true, false},
		"cmnd/lamp1/POWER":            {false, true},
		"cmnd/lamp2/POWER":            {false, false},
		"$edge/receipt/lamp1/aaaa-1":  {false, true},
		"$edge/receipt/lamp2/aaaa-1":  {false, false},
		"$edge/device/lamp1/presence": {false, false},
	} {
		if p, r := g.MayPublish(topic), g.MayReceive(topic); p != want[0] || r != want[1] {
			t.Errorf("%s: publish %v receive %v, want %v", topic, p, r, want)
		}
	}
	if !g.MaySubscribe("group/hall/in/#") || g.MaySubscribe("group/+/in/#") || g.MaySubscribe("#") {
		t.Error("subscribe rules are wrong")
	}
}

func TestCurrentFollowsTheDirectory(t *testing.T) {
	a, b, _ := fixture(nil)
	g1, _ := a.Current("device/lamp1")
	if g2, _ := a.Current("device/lamp1"); g1 != g2 {
		t.Error("the grant is not cached")
	}
	b.put(Entry{Kind: Device, Name: "lamp1", Groups: []string{"attic"}}, "ep_lamp")
	g3, ok := a.Current("device/lamp1")
	if !ok || g3.MayReceive("group/hall/in/x") || !g3.MayReceive("group/attic/in/x") || g3.MayReceive("cmnd/lamp1/x") {
		t.Error("the changed rules do not hold")
	}
	b.remove("lamp1")
	if _, ok := a.Current("device/lamp1"); ok {
		t.Error("a removed device still has a grant")
	}
	b.put(Entry{Kind: Key, Name: "lamp1"}, "ep_lamp")
	if _, ok := a.Current("device/lamp1"); ok {
		t.Error("a key answers for a device")
	}
	for _, p := range []string{"", "device/", "device/no", "key/no", "owner/x", "unknown/lamp1"} {
		if _, ok := a.Current(p); ok {
			t.Errorf("%q has a grant", p)
		}
	}
}

func TestCurrentUnderChange(t *testing.T) {
	a, b, _ := fixture(nil)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					a.Current("device/lamp1")
				}
			}
		})
	}
	for i := range 500 {
		group := fmt.Sprintf("g%d", i)
		b.put(Entry{Kind: Device, Name: "lamp1", Groups: []string{group}}, "ep_lamp")
		if g, ok := a.Current("device/lamp1"); !ok || !g.MayReceive(message.Topic("group/"+group+"/in/x")) {
			t.Fatalf("change %d is not seen by a call that began after it", i)
		}
	}
	close(done)
	wg.Wait()
}

func TestFromRequest(t *testing.T) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		url     string
		headers []string
		want    Credentials
		bad     bool
	}{
		{url: "/"},
		{url: "/?x=1"},
		{url: "/", headers: []string{"Bearer ep_x"}, want: Credentials{Token: "ep_x"}},
		{url: "/", headers: []string{"bearer  ep_x"}, want: Credentials{Token: "ep_x"}},
		{url: "/", headers: []string{basic("lamp1:ep_x")}, want: Credentials{Name: "lamp1", Token: "ep_x"}},
		{url: "/", headers: []string{basic("zigbee:0x12:ep_x")}, want: Credentials{Name: "zigbee:0x12", Token: "ep_x"}},
		{url: "/", headers: []string{basic(":ep_x")}, want: Credentials{Token: "ep_x"}},
		{url: "/?ticket=abc", want: Credentials{Ticket: "abc"}},
		{url: "/?ticket=abc", headers: []string{"Bearer ep_x"}, want: Credentials{Token: "ep_x"}},
		{url: "/?ticket=", bad: true},
		{url: "/?ticket=a&ticket=b", bad: true},
		{url: "/?ticket=" + strings.Repeat("a", maxTicket+1), bad: true},
		{url: "/", headers: []string{""}, bad: true},
		{url: "/", headers: []string{"Bearer"}, bad: true},
		{url: "/", headers: []string{"Bearer "}, bad: true},
		{url: "/", headers: []string{"Bearer a b"}, bad: true},
		{url: "/", headers: []string{"Bearer a, Basic b"}, bad: true},
		{url: "/", headers: []string{"Digest a"}, bad: true},
		{url: "/", headers: []string{"Basic !!"}, bad: true},
		{url: "/", headers: []string{basic("nocolon")}, bad: true},
		{url: "/", headers: []string{basic(":")}, bad: true},
		{url: "/", headers: []string{"Bearer a", "Bearer b"}, bad: true},
		{url: "/", headers: []string{"Bearer " + strings.Repeat("a", maxHeader)}, bad: true},
	} {
		r := httptest.NewRequest("GET", c.url, nil)
		for _, h := range c.headers {
			r.Header.Add("Authorization", h)
		}
		got, err := FromRequest(r)
		if got.Remote != netip.MustParseAddr("192.0.2.1") {
			t.Errorf("%s %q: remote %v", c.url, c.headers, got.Remote)
		}
		if c.bad {
			wantCode(t, err, message.CodeUnauthorized)
			continue
		}
		got.Remote, got.Via = netip.Addr{}, ""
		if err != nil || got != c.want {
			t.Errorf("%s %q: %+v, %v; want %+v", c.url, c.headers, got, err, c.want)
		}
	}
}

func TestTicketWorksOnceForThirtySeconds(t *testing.T) {
	a, b, ft := fixture(nil)
	g, _ := a.Current("key/app")
	s, ttl := a.Tickets().Issue(g)
	if ttl != 30*time.Second || len(s) != 43 {
		t.Fatalf("%q for %v", s, ttl)
	}
	if got, err := a.Authenticate(context.Background(), Credentials{Ticket: s}); err != nil || got != g {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err := a.Authenticate(context.Background(), Credentials{Ticket: s})
	wantCode(t, err, message.CodeUnauthorized)

	s, _ = a.Tickets().Issue(g)
	ft.t = ft.t.Add(30 * time.Second)
	_, err = a.Authenticate(context.Background(), Credentials{Ticket: s})
	wantCode(t, err, message.CodeUnauthorized)

	s, _ = a.Tickets().Issue(g)
	b.remove("app")
	_, err = a.Authenticate(context.Background(), Credentials{Ticket: s})
	wantCode(t, err, message.CodeUnauthorized)
}

func TestTicketTableIsBounded(t *testing.T) {
	ft := &fakeTime{time.Unix(1, 0)}
	tk := NewTickets(ft.now)
	quiet := NewGrant(Key, "quiet", false, message.Rules{})
	first, _ := tk.Issue(quiet)
	loud := NewGrant(Key, "loud", false, message.Rules{})
	for range 2 * maxTickets {
		ft.t = ft.t.Add(time.Millisecond)
		tk.Issue(loud)
	}
	if n := len(tk.open); n != maxTicketsOfOne+1 {
		t.Errorf("%d tickets open", n)
	}
	if p, _, ok := tk.Redeem(first); !ok || p != "key/quiet" {
		t.Error("one principal crowded another out")
	}
	for i := range 3 * maxTickets {
		tk.Issue(NewGrant(Key, fmt.Sprint(i), false, message.Rules{}))
	}
	if n := len(tk.open); n != maxTickets {
		t.Errorf("%d tickets open", n)
	}
}

func TestThrottle(t *testing.T) {
	a, _, ft := fixture(nil)
	ctx := context.Background()
	from := func(s string, token string) error {
		_, err := a.Authenticate(ctx, Credentials{Name: "app", Token: token, Remote: netip.MustParseAddr(s)})
		return err
	}
	for range failureBurst {
		wantCode(t, from("192.168.1.9", "no"), message.CodeUnauthorized)
	}
	wantCode(t, from("192.168.1.9", "no"), message.CodeTooMany)
	wantCode(t, from("::ffff:192.168.1.9", "no"), message.CodeTooMany)
	wantCode(t, from("192.168.1.10", "no"), message.CodeUnauthorized)
	if err := from("192.168.1.9", "ep_app"); err != nil {
		t.Errorf("the right token is refused: %v", err)
	}
	ft.t = ft.t.Add(failureRefill)
	wantCode(t, from("192.168.1.9", "no"), message.CodeUnauthorized)
	wantCode(t, from("192.168.1.9", "no"), message.CodeTooMany)

	for i := range failureBurst {
		wantCode(t, from(fmt.Sprintf("fe80::%d%%eth0", i+1), "no"), message.CodeUnauthorized)
	}
	wantCode(t, from("fe80::99", "no"), message.CodeTooMany)
	wantCode(t, from("fd00::99", "no"), message.CodeUnauthorized)

	for range 5 * failureBurst {
		wantCode(t, from("127.0.0.1", "no"), message.CodeUnauthorized)
		wantCode(t, from("::1", "no"), message.CodeUnauthorized)
	}
}

func TestThrottleTableIsBounded(t *testing.T) {
	ft := &fakeTime{time.Unix(1, 0)}
	th := newThrottle(ft.now)
	for i := range 3 * maxSources {
		ft.t = ft.t.Add(time.Millisecond)
		th.failed(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		th.failed(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	if n := len(th.sources); n != maxSources {
		t.Fatalf("%d sources", n)
	}
}

func FuzzFromRequest(f *testing.F) {
	f.Add("Bearer ep_x", "ticket=a")
	f.Add("Basic bGFtcDE6ZXBfeA==", "")
	f.Fuzz(func(t *testing.T, header, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		if header != "" {
			r.Header["Authorization"] = []string{header}
		}
		c, err := FromRequest(r)
		if err != nil && message.ProblemOf(err) == nil {
			t.Fatalf("%v is not a problem", err)
		}
		if err == nil && header != "" && c.Token == "" && c.Name == "" {
			t.Fatalf("header %q counts as no credentials", header)
		}
	})
}

func BenchmarkCurrent(b *testing.B) {
	a, _, _ := fixture(nil)
	b.ReportAllocs()
	for b.Loop() {
		a.Current("device/lamp1")
	}
}
