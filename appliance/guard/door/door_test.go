package door

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

func fixture() (*Door, *time.Time) {
	now := time.Unix(1_800_000_000, 0)
	return New(func() time.Time { return now }), &now
}

func knock(name, secret string, host byte) auth.Credentials {
	return auth.Credentials{Name: name, Token: secret, Via: "mqtt", Remote: netip.AddrFrom4([4]byte{192, 168, 1, host})}
}

func code(err error) string {
	if p := message.ProblemOf(err); p != nil {
		return p.Code
	}
	return fmt.Sprint(err)
}

func TestDoor(t *testing.T) {
	d, now := fixture()
	if err := d.Knock(knock("lamp1", "secret-1", 9)); err != nil || len(d.List()) != 0 {
		t.Fatalf("the door is closed: %v", err)
	}
	if err := d.Open(0); err != nil || d.Left() != DefaultOpen {
		t.Fatalf("%v, %v", err, d.Left())
	}
	for range 3 {
		if err := d.Knock(knock("lamp1", "secret-1", 9)); code(err) != message.CodeWaiting || strings.Contains(err.Error(), "secret-1") {
			t.Fatal(err)
		}
	}
	list := d.List()
	if len(list) != 1 || list[0].Name != "lamp1" || list[0].Tries != 3 || list[0].Via != "mqtt" || len(list[0].Fingerprint) != 8 {
		t.Fatalf("%+v", list)
	}
	pin, err := d.Find("lamp1", "")
	if err != nil || pin.Hash != auth.HashToken("secret-1") || !pin.Guessable {
		t.Fatalf("%+v, %v", pin, err)
	}
	*now = now.Add(DefaultOpen)
	if d.Left() != 0 || d.Knock(knock("lamp2", "secret-2", 9)) != nil {
		t.Error("the door stays open")
	}
	if _, err := d.Find("lamp1", ""); err != nil {
		t.Errorf("who waited cannot be approved a moment later: %v", err)
	}
	d.Leave("lamp1")
	if _, err := d.Find("lamp1", ""); code(err) != message.CodeNotFound {
		t.Error(err)
	}
	for _, span := range []time.Duration{-1, time.Second, MaxOpen + 1} {
		if err := d.Open(span); code(err) != message.CodeBadRequest {
			t.Errorf("%v: %v", span, err)
		}
	}
}

func TestNobodyTakesAnothersPlace(t *testing.T) {
	d, now := fixture()
	_ = d.Open(0)
	_ = d.Knock(knock("lamp1", "right-secret", 9))
	_ = d.Knock(knock("lamp1", "evil-secret!", 66))
	if _, err := d.Find("lamp1", ""); code(err) != message.CodeBadRequest || !strings.Contains(err.Error(), "192.168.1.66") {
		t.Fatalf("two wait, and nobody asks which: %v", err)
	}
	right, evil := d.List()[0], d.List()[1]
	if err := d.Refuse("lamp1", evil.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if err := d.Knock(knock("lamp1", "evil-secret!", 66)); err != nil || len(d.List()) != 1 {
		t.Errorf("refused and it waits again: %v", err)
	}
	if pin, err := d.Find("lamp1", strings.ToUpper(right.Fingerprint)); err != nil || pin.Hash != auth.HashToken("right-secret") {
		t.Error(err)
	}
	_ = d.Open(0) // anew
	if err := d.Knock(knock("lamp1", "evil-secret!", 66)); code(err) != message.CodeWaiting {
		t.Error(err)
	}
	*now = now.Add(keepFor)
	if len(d.List()) != 0 {
		t.Error("they wait for ever")
	}
	_ = d.Open(0)
	_ = d.Knock(knock("lamp1", "right-secret", 9))
	d.Close()
	if len(d.List()) != 0 || d.Left() != 0 || d.Knock(knock("lamp1", "right-secret", 9)) != nil {
		t.Error("closed, and somebody waits")
	}
}

func TestWhatCannotBePinned(t *testing.T) {
	d, _ := fixture()
	_ = d.Open(0)
	if err := d.Knock(knock("lamp1", "1234", 9)); code(err) != message.CodeWaiting || !d.List()[0].Short {
		t.Errorf("%v, %+v", err, d.List())
	}
	if _, err := d.Find("lamp1", ""); code(err) != message.CodeBadRequest {
		t.Error(err)
	}
	if err := d.Knock(knock("no/id", "long-secret", 9)); err != nil || len(d.List()) != 1 {
		t.Errorf("a name that no device can have waits: %v", err)
	}
	_ = d.Knock(knock("strong", strings.Repeat("x", 22), 9))
	if pin, err := d.Find("strong", ""); err != nil || pin.Guessable {
		t.Errorf("%+v, %v", pin, err)
	}
}

func TestTableIsBounded(t *testing.T) {
	d, _ := fixture()
	_ = d.Open(0)
	for i := range 10 * maxOfOne {
		_ = d.Knock(knock(fmt.Sprint("n", i), "some secret", 66))
	}
	if n := len(d.List()); n != maxOfOne {
		t.Errorf("one address holds %d places", n)
	}
	for i := range 10 * maxWaiting {
		_ = d.Knock(knock(fmt.Sprint("m", i), "some secret", byte(i%60)))
	}
	if n := len(d.List()); n != maxWaiting {
		t.Errorf("%d wait", n)
	}
}
