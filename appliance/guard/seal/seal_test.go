package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

const topic = "device/lamp1/in/set"

func testKey() (k Key) {
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

// TestVector checks the test vector of the package comment, as an author of a device would.
func TestVector(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	c := Content{Payload: []byte(`{"on":true}`), Type: "application/json", Nonce: [12]byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab}}
	b := NewBox(testKey())
	bin := hex.EncodeToString(b.seal(Binary, topic, c))
	said := strings.NewReplacer("\n", "", "//", "", " ", "", "\t", "").Replace(string(doc))
	for _, want := range []string{bin, string(b.seal(JWE, topic, c)), b.KeyID()} {
		if !strings.Contains(said, want) {
			t.Errorf("doc.go does not have %s", want)
		}
	}
}

func TestSealedOpens(t *testing.T) {
	b := NewBox(NewKey())
	for _, f := range []Form{JWE, Binary} {
		for _, payload := range []string{"", "x", `{"on":true}`, strings.Repeat("\xff\x00", 5000)} {
			s := b.Seal(f, topic, Content{Payload: []byte(payload), Type: "text/plain"})
			c, err := b.Open(f, topic, s)
			if err != nil || string(c.Payload) != payload || (f == JWE) != (c.Type == "text/plain") {
				t.Fatalf("%s of %d bytes: %q, %v", f, len(payload), c.Type, err)
			}
			if id, ok := f.KeyID(s); !ok || id != b.KeyID() {
				t.Errorf("%s says its key is %q, not %q", f, id, b.KeyID())
			}
			if again := b.Seal(f, topic, Content{Payload: []byte(payload)}); bytes.Equal(again, s) {
				t.Errorf("%s: sealed twice is the same twice", f)
			}
		}
	}
}

// TestNoByteIsFree changes every bit of a sealed payload: nothing opens to what was not sealed.
func TestNoByteIsFree(t *testing.T) {
	b := NewBox(NewKey())
	for _, f := range []Form{JWE, Binary} {
		s := b.Seal(f, topic, Content{Payload: []byte("open the gate")})
		for i := range s {
			for bit := range 8 {
				bad := bytes.Clone(s)
				bad[i] ^= 1 << bit
				if c, err := b.Open(f, topic, bad); err == nil {
					t.Fatalf("%s: byte %d of %d changed to %q, and it opens to %q", f, i, len(s), bad[i], c.Payload)
				}
			}
			if _, err := b.Open(f, topic, s[:i]); !errors.Is(err, ErrForm) && !errors.Is(err, ErrTag) {
				t.Fatalf("%s cut to %d bytes: %v", f, i, err)
			}
		}
	}
}

func TestRefusedByName(t *testing.T) {
	k := testKey()
	b := NewBox(k)
	jwe := func(h string) []byte {
		enc := base64.RawURLEncoding
		aad := enc.AppendEncode(nil, []byte(h))
		var nonce [12]byte
		body := b.aead.Seal(nil, nonce[:], []byte("x"), aad)
		return fmt.Appendf(aad, "..%s.%s.%s", enc.EncodeToString(nonce[:]), enc.EncodeToString(body[:1]), enc.EncodeToString(body[1:]))
	}
	head := func(more string) []byte {
		return jwe(`{"alg":"dir","enc":"A256GCM","kid":"` + k.ID() + `"` + more + `}`)
	}
	if _, err := b.Open(JWE, topic, head(`,"topic":"`+topic+`"`)); err != nil {
		t.Fatalf("the honest one: %v", err)
	}
	for _, c := range []struct {
		name string
		s    []byte
		want error
		says string
	}{
		{"zip", head(`,"topic":"` + topic + `","zip":"DEF"`), ErrForm, "zip"},
		{"zip null", head(`,"topic":"` + topic + `","zip":null`), ErrForm, "zip"},
		{"crit", head(`,"topic":"` + topic + `","crit":["topic"]`), ErrForm, "crit"},
		{"a name twice", head(`,"topic":"` + topic + `","topic":"x"`), ErrForm, "twice"},
		{"another topic", head(`,"topic":"device/lamp1/out/x"`), ErrTopic, "lamp1/out/x"},
		{"no topic", head(``), ErrTopic, "no topic"},
		{"another key", jwe(`{"alg":"dir","enc":"A256GCM","kid":"deadbeef","topic":"` + topic + `"}`), ErrKey, "deadbeef"},
		{"no key", jwe(`{"alg":"dir","enc":"A256GCM","topic":"` + topic + `"}`), ErrKey, ""},
		{"password", jwe(`{"alg":"PBES2-HS256+A128KW","p2c":2147483647,"enc":"A256GCM"}`), ErrForm, "PBES2-HS256+A128KW"},
		{"RSA 1.5", jwe(`{"alg":"RSA1_5","enc":"A256GCM"}`), ErrForm, "RSA1_5"},
		{"none", jwe(`{"alg":"none","enc":"A256GCM"}`), ErrForm, "none"},
		{"CBC", jwe(`{"alg":"dir","enc":"A256CBC-HS512"}`), ErrForm, "A256CBC-HS512"},
		{"short key", jwe(`{"alg":"dir","enc":"A128GCM"}`), ErrForm, "A128GCM"},
		{"DES", jwe(`{"alg":"dir","enc":"DES-CBC"}`), ErrForm, "DES is not offered: 56-bit key"},
		{"3DES", jwe(`{"alg":"dir","enc":"des-ede3-cbc"}`), ErrForm, "3DES is not offered"},
		{"RC4", jwe(`{"alg":"RC4","enc":"A256GCM"}`), ErrForm, "RC4 is not offered"},
		{"capitals", jwe(`{"ALG":"dir","enc":"A256GCM"}`), ErrForm, "alg"},
		{"no object", jwe(`"dir"`), ErrForm, "JSON"},
		{"a JWS", []byte("e30.e30.AAAA"), ErrForm, "five"},
		{"six parts", append(head(``), '.'), ErrForm, "five"},
		{"large header", bytes.Repeat([]byte("A"), 5000), ErrForm, "five"},
		{"plain", []byte("open the gate"), ErrForm, "five"},
	} {
		if _, err := b.Open(JWE, topic, c.s); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", c.name, err, c.want, c.says)
		}
	}
	other := NewBox(NewKey()).Seal(Binary, topic, Content{Payload: []byte("x")})
	mine := b.Seal(Binary, topic, Content{Payload: []byte("x")})
	for _, c := range []struct {
		name  string
		topic string
		s     []byte
		want  error
	}{
		{"another key", topic, other, ErrKey},
		{"another topic", "device/lamp1/out/set", mine, ErrTag},
		{"another version", topic, append([]byte{2}, mine[1:]...), ErrForm},
		{"short", topic, mine[:32], ErrForm},
		{"nothing", topic, nil, ErrForm},
	} {
		if _, err := b.Open(Binary, c.topic, c.s); !errors.Is(err, c.want) {
			t.Errorf("binary, %s: %v; want %v", c.name, err, c.want)
		}
	}
}

// TestGoJose compares with another implementation, both ways.
func TestGoJose(t *testing.T) {
	k := NewKey()
	b := NewBox(k)
	o, err := jose.ParseEncryptedCompact(string(b.Seal(JWE, topic, Content{Payload: []byte("hello"), Type: "text/plain"})),
		[]jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := o.Decrypt(k[:]); err != nil || string(got) != "hello" || o.Header.KeyID != k.ID() || o.Header.ExtraHeaders["topic"] != topic {
		t.Fatalf("%q %v %v", got, err, o.Header)
	}
	opts := (&jose.EncrypterOptions{}).WithContentType("json").WithHeader("topic", topic)
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: k[:], KeyID: k.ID()}, opts)
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.Encrypt([]byte("back"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := b.Open(JWE, topic, []byte(s)); err != nil || string(c.Payload) != "back" || c.Type != "application/json" {
		t.Fatalf("%+v %v", c, err)
	}
}

func TestKeys(t *testing.T) {
	k := NewKey()
	got, err := ParseKey(k.JWK())
	if err != nil || got != k {
		t.Fatalf("a key does not read itself: %v", err)
	}
	for _, verb := range []string{"%v", "%s", "%x", "%+v", "%#v", "%d"} {
		if s := fmt.Sprintf(verb, k); s != "key "+k.ID() {
			t.Errorf("%s prints %q", verb, s)
		}
	}
	secret := base64.RawURLEncoding.EncodeToString(k[:])
	for _, c := range []struct{ jwk, says string }{
		{`{"kty":"oct","k":"` + secret + `"}`, ""},
		{`{"kty":"oct","alg":"dir","use":"enc","k":"` + secret + `"}`, ""},
		{`{"kty":"oct","kid":"00000000","k":"` + secret + `"}`, "of this key it is " + k.ID()},
		{`{"kty":"oct","alg":"3DES","k":"` + secret + `"}`, "3DES is not offered"},
		{`{"kty":"oct","alg":"MD5","k":"` + secret + `"}`, "MD5 is not offered"},
		{`{"kty":"oct","alg":"A128GCM","k":"` + secret + `"}`, "A256GCM"},
		{`{"kty":"RSA","k":"` + secret + `"}`, `"oct"`},
		{`{"kty":"oct","k":"` + secret + `="}`, "base64url"},
		{`{"kty":"oct","k":"` + secret[:22] + `"}`, "32 bytes"},
		{`{"kty":"oct","k":"` + strings.Repeat("A", 43) + `"}`, "zeros"},
		{`{"kty":"oct","k":"` + secret + `","k":"AAAA"}`, "not a JSON Web Key"},
		{secret, "not a JSON Web Key"},
		{strings.Repeat(" ", 5000), "5000 bytes"},
	} {
		switch got, err := ParseKey([]byte(c.jwk)); {
		case c.says == "" && (err != nil || got != k):
			t.Errorf("%s: %v", c.jwk, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), secret[:22])):
			t.Errorf("%s: %v; want %q and no secret", c.jwk, err, c.says)
		}
	}
}

func TestForms(t *testing.T) {
	for _, f := range []Form{None, JWE, Binary} {
		var got Form
		text, _ := f.MarshalText()
		if err := got.UnmarshalText(text); err != nil || got != f {
			t.Errorf("%s reads as %s, %v", text, got, err)
		}
		if FormOf(f.ContentType()) != f {
			t.Errorf("%s is not found by its media type %q", f, f.ContentType())
		}
	}
	if FormOf("Application/JOSE; x=y") != JWE || FormOf("application/jose+json") != None {
		t.Error("media types are not read as such")
	}
	for name, says := range map[string]string{"des": "DES is not offered", "3des": "3DES", "rc4": "RC4", "md5": "MD5", "aes": "jwe, a256gcm or off"} {
		if _, err := ParseForm(name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen opens whatever comes. What opens was sealed: sealing it again under its nonce gives the same
// bytes in the binary form.
func FuzzOpen(f *testing.F) {
	b := NewBox(testKey())
	f.Add(true, b.Seal(JWE, topic, Content{Payload: []byte("x"), Type: "text/plain"}))
	f.Add(false, b.Seal(Binary, topic, Content{Payload: []byte("x")}))
	f.Add(true, []byte("e30.."))
	f.Fuzz(func(t *testing.T, isJWE bool, s []byte) {
		form := Binary
		if isJWE {
			form = JWE
		}
		_, named := form.KeyID(s)
		c, err := b.Open(form, topic, s)
		if err == nil && !named {
			t.Fatal("it opens, and it has no key id")
		}
		if err == nil && form == Binary && !bytes.Equal(b.seal(form, topic, c), s) {
			t.Fatal("two spellings of one sealed payload")
		}
		if err != nil && c.Payload != nil {
			t.Fatalf("refused with %v, and %q came out", err, c.Payload)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(testKey().JWK())
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			if k != (Key{}) {
				t.Fatal("refused, and a key came out")
			}
			return
		}
		if again, err := ParseKey(k.JWK()); err != nil || again != k {
			t.Fatalf("a key that was read does not read itself: %v", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	box := NewBox(testKey())
	payload := make([]byte, 256)
	for _, f := range []Form{JWE, Binary} {
		b.Run(f.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				box.Seal(f, topic, Content{Payload: payload})
			}
		})
	}
}
