package appliance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
)

// TestReplaysForgetTheOldest: the window is as large as it says, and only what was stored is in it.
func TestReplaysForgetTheOldest(t *testing.T) {
	var r replays
	at := func(i int) *message.Message {
		return &message.Message{From: "lamp1", Key: sealKey + fmt.Sprint(i)}
	}
	refused := r.note(at(0), func(message.StoredAs, error) {})
	if refused(message.StoredAs{}, message.Problemf(message.CodeStorageFull, "full")); len(r.by) > 0 {
		t.Fatal("what was refused is remembered, and would be lost when it comes again")
	}
	const more = 10
	for i := range maxReplays + more {
		r.note(at(i), func(message.StoredAs, error) {})(message.StoredAs{Seq: uint64(i)}, nil)
		r.note(at(i), func(message.StoredAs, error) {})(message.StoredAs{Seq: 1 << 40}, nil) // its replay
	}
	for i := range maxReplays + more {
		as, ok := r.find(at(i))
		if ok != (i >= more) || ok && (as.Seq != uint64(i) || !as.Replayed) {
			t.Fatalf("message %d: %v %+v", i, ok, as)
		}
	}
	if len(r.by) != maxReplays || len(r.order) != maxReplays {
		t.Errorf("%d remembered in %d places", len(r.by), len(r.order))
	}
	plain := &message.Message{From: "lamp1", Key: "seal 1"}
	r.note(plain, func(message.StoredAs, error) {})(message.StoredAs{}, nil)
	if _, ok := r.find(plain); ok {
		t.Error("an idempotency key of a client is taken for a nonce")
	}
}

// TestSealAdministration: only administrators change it, every change is in the audit history, and neither shows the key.
func TestSealAdministration(t *testing.T) {
	r := newRig(t, Config{})
	tok := r.device("lamp1")
	r.as(tok, "PUT", "/v1/devices/lamp1/seal", `{"form":"jwe"}`, http.StatusForbidden)
	r.admin("PUT", "/v1/devices/nobody/seal", `{"form":"jwe"}`, http.StatusNotFound)
	made := r.admin("PUT", "/v1/devices/lamp1/seal", `{"form":"jwe"}`, http.StatusOK)
	key, ok := made["key"].(map[string]any)
	if !ok || key["kid"] != made["seal_key"] {
		t.Fatalf("%v", made)
	}
	secret := key["k"].(string)
	if again := r.admin("PUT", "/v1/devices/lamp1/seal", `{"form":"a256gcm"}`, http.StatusOK); again["key"] != nil || again["seal_key"] != made["seal_key"] {
		t.Errorf("the key is shown twice, or is another: %v", again)
	}
	for _, path := range []string{"/v1/devices/lamp1", "/v1/devices", "/v1/audit", "/v1/status"} {
		if text := fmt.Sprint(r.admin("GET", path, "", http.StatusOK)); strings.Contains(text, secret) {
			t.Errorf("%s shows the key", path)
		}
	}
	if text := fmt.Sprint(r.admin("GET", "/v1/audit", "", http.StatusOK)); strings.Count(text, "device.seal") != 3 {
		t.Errorf("the audit history has %s", text)
	}

	// What a publisher sealed for the device already is not sealed again; what was sealed with other keys is.
	k, err := seal.ParseKey(fmt.Appendf(nil, `{"kty":"oct","k":%q}`, secret))
	if err != nil {
		t.Fatal(err)
	}
	const topic = "device/lamp1/in/set"
	s := r.a.core.sealer("lamp1")
	mine := message.New(topic, seal.NewBox(k).Seal(seal.JWE, topic, seal.Content{Payload: []byte("x")}))
	mine.ContentType = seal.TypeJWE
	if s.message(mine) != mine {
		t.Error("a payload that is sealed with the device's key is sealed twice")
	}
	others := message.New(topic, seal.NewBox(seal.NewKey()).Seal(seal.JWE, topic, seal.Content{Payload: []byte("x")}))
	others.ContentType = seal.TypeJWE
	if got := s.message(others); got == others || got.ContentType != seal.TypeBinary || &got.Payload[0] == &others.Payload[0] {
		t.Error("a payload that the device could not open is not sealed")
	}
	lie := message.New(topic, []byte("plain"))
	lie.ContentType = seal.TypeJWE
	if got := s.message(lie); got == lie {
		t.Error("a plain payload that is called sealed goes out plain")
	}
}
