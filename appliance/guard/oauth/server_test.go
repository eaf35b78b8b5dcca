package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/message"
)

// rig is a server whose clocks the test moves, and who checks its tokens.
type rig struct {
	*Server
	t       *testing.T
	dir     string
	now     time.Time
	age     time.Duration
	trusted bool
	check   *jwt.Verifier
}

const url = "https://gateway.local:8448"

func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "oauth"), now: time.Unix(1_800_000_000, 0), age: time.Second, trusted: true}
	r.restart()
	return r
}

func (r *rig) restart() {
	r.t.Helper()
	var err error
	r.Server, err = Open(Options{
		Dir: r.dir, Issuer: url, Now: func() time.Time { return r.now }, Age: func() time.Duration { return r.age },
		Since: func(kept time.Duration) time.Duration { return r.age - kept },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.check, err = jwt.New(jwt.Options{Issuers: []jwt.Issuer{r.Trust()}, Now: func() (time.Time, bool) { return r.now, r.trusted }})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) pass(d time.Duration) { r.now, r.age = r.now.Add(d), r.age+d }

func (r *rig) issue(principal string) string {
	r.t.Helper()
	tok, err := r.Issue(Subject{Principal: principal, Client: "c", Credential: "m"})
	if err != nil {
		r.t.Fatal(err)
	}
	return tok.Text
}

func (r *rig) holds(token string, want bool) *jwt.Identity {
	r.t.Helper()
	id, err := r.check.Verify(r.t.Context(), token)
	if (err == nil) != want {
		r.t.Fatalf("accepted %v, want %v: %v", err == nil, want, err)
	}
	return id
}

func part(t *testing.T, token string, n int) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A token has the claims of RFC 9068 §2.2, and says what was asked for.
func TestToken(t *testing.T) {
	r := start(t)
	scope, err := ParseScope("publish:a/+/b admin subscribe:c/# admin")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := r.Issue(Subject{Principal: "key/app", Client: "app", Credential: "mark", Thumbprint: "thumb", Scope: scope})
	if err != nil || tok.Expires != 15*time.Minute || tok.Scope != "publish:a/+/b admin subscribe:c/#" {
		t.Fatalf("%+v, %v", tok, err)
	}
	if h := part(t, tok.Text, 0); h["typ"] != "at+jwt" || h["alg"] != "EdDSA" || h["kid"] != r.Keys()[0].ID {
		t.Errorf("header %v", h)
	}
	c := part(t, tok.Text, 1)
	if c["iss"] != url || c["aud"] != url || c["client_id"] != "app" || c["exp"] != 1.8e9+900 || c["iat"] != 1.8e9 || len(c["jti"].(string)) < 20 {
		t.Errorf("claims %v", c)
	}
	id := r.holds(tok.Text, true)
	if id.StandsFor != "key/app" || id.Credential != "mark" || id.Bound != "thumb" || !id.Admin || !id.Own() || id.Scope != tok.Scope || !id.Ends().Equal(r.now.Add(15*time.Minute)) {
		t.Errorf("%+v", id)
	}
	if ok, _ := id.ACL.MayPublish("a/x/b"); !ok || !id.ACL.MayReceive("c/x") || id.ACL.MayReceive("a/x/b") {
		t.Error("the scope's filters are not what the token allows")
	}
	r.pass(15*time.Minute + leeway)
	r.holds(tok.Text, false)
}

func TestScopes(t *testing.T) {
	for _, s := range []string{"root", "publish", "publish:", "publish:a/#/b", "write:a", `publish:"a"`, "publish:${clientid}/#", strings.Repeat("a", maxScope+1), strings.Repeat("publish:a ", maxScopes+1)} {
		_, err := ParseScope(s)
		var e *Error
		if !errors.As(err, &e) || e.Code != InvalidScope || strings.ContainsAny(e.Description, "\"\\\n") {
			t.Errorf("%.40q: %v", s, err)
		}
	}
	if s, err := ParseScope("  "); err != nil || s.Text != "" || s.Admin {
		t.Errorf("%+v, %v", s, err)
	}
}

// Tokens stay good over a rotation and a restart, and end with the key once it is dropped.
func TestRotation(t *testing.T) {
	r := start(t)
	first := r.issue("device/a")
	before := r.Keys()
	if err := r.Rotate(false); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.holds(first, true)
	after := r.Keys()
	if len(after) != 3 || after[0].ID != before[0].ID || after[0].State != "retired" || after[1].ID != before[1].ID || after[1].State != "current" || after[2].State != "next" {
		t.Errorf("%+v then %+v", before, after)
	}
	if kid := part(t, r.issue("device/a"), 0)["kid"]; kid != before[1].ID {
		t.Errorf("signed with %v", kid)
	}
	r.pass(keepRetired + time.Second)
	r.upkeep()
	if len(r.Keys()) != 2 {
		t.Errorf("the old key is still published: %+v", r.Keys())
	}
	r.pass(DefaultRotation)
	second := r.issue("device/a")
	r.upkeep()
	if r.Keys()[1].ID != after[2].ID || r.Keys()[1].State != "current" {
		t.Error("nothing changed after 90 days")
	}
	r.holds(second, true)
	if err := r.Rotate(true); err != nil {
		t.Fatal(err)
	}
	r.holds(second, false)
	if len(r.Keys()) != 2 {
		t.Errorf("%+v", r.Keys())
	}
	for range maxRetired {
		if err := r.Rotate(false); err != nil {
			t.Fatal(err)
		}
	}
	if p := message.ProblemOf(r.Rotate(false)); p == nil || p.Code != message.CodeTooMany {
		t.Errorf("one rotation too many: %v", p)
	}
	var doc struct{ Keys []map[string]string }
	if err := json.Unmarshal(r.KeySet(), &doc); err != nil || len(doc.Keys) != maxRetired+2 || doc.Keys[0]["d"] != "" {
		t.Errorf("%s", r.KeySet())
	}
	if set, err := jwt.ParseKeySet(r.KeySet()); err != nil || set.Len() != maxRetired+2 {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(r.dir, "keys"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

// What was revoked stays so over a restart; what is issued afterwards is good at once.
func TestRevocation(t *testing.T) {
	r := start(t)
	a, b := r.issue("device/a"), r.issue("device/a")
	other := r.issue("device/b")
	if err := r.RevokeToken(r.holds(a, true)); err != nil {
		t.Fatal(err)
	}
	r.holds(a, false)
	r.holds(b, true)
	r.restart()
	r.holds(a, false)
	tokens := []string{b}
	for range 3 { // within one second
		if err := r.RevokeSubject("device/a"); err != nil {
			t.Fatal(err)
		}
		for _, tok := range tokens {
			r.holds(tok, false)
		}
		r.holds(other, true)
		tok := r.issue("device/a")
		if len(tokens) < 2 { // later ones are of seconds to come, beyond the leeway
			r.holds(tok, true)
		}
		tokens = append(tokens, tok)
		r.restart()
	}
	if err := r.RevokeEverybody(); err != nil {
		t.Fatal(err)
	}
	r.holds(tokens[1], false)
	r.pass(10 * time.Second)
	r.holds(tokens[len(tokens)-1], false) // whose iat was ahead
	r.pass(keepRetired)
	if err := r.RevokeEverybody(); err != nil {
		t.Fatal(err)
	}
	if tokens, subjects := r.Ended(); tokens != 0 || subjects != 1 {
		t.Errorf("%d tokens and %d subjects are kept that ended long ago", tokens, subjects)
	}
	fresh := r.issue("device/c")
	r.holds(fresh, true)
}

// What the list cannot hold ends more, never less.
func TestRevocationsAreBounded(t *testing.T) {
	r := start(t)
	good := r.holds(r.issue("device/a"), true)
	r.revoked.tokens = make(map[string]int64)
	for range maxRevoked {
		r.revoked.tokens[rand.Text()] = r.now.Unix() + 100
	}
	same, other := r.issue("device/a"), r.issue("device/b")
	if err := r.RevokeToken(good); err != nil {
		t.Fatal(err)
	}
	r.holds(same, false)
	r.holds(other, true)
	for range maxSubjects {
		r.revoked.subjects[rand.Text()] = ended{Until: r.now.Unix() + 100}
	}
	if err := r.RevokeSubject("device/x"); err != nil {
		t.Fatal(err)
	}
	r.holds(other, false)
}

// Files that cannot be read end every token, and a directory that cannot be written is an error.
func TestDamage(t *testing.T) {
	for _, name := range []string{"keys", "revoked"} {
		r := start(t)
		tok := r.issue("device/a")
		if err := r.RevokeSubject("device/b"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(`{"format":1,"keys":[]`), 0o600); err != nil {
			t.Fatal(err)
		}
		r.restart()
		r.holds(tok, false)
		r.holds(r.issue("device/a"), true)
		r.restart()
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: filepath.Join(file, "x"), Issuer: url, Age: func() time.Duration { return 0 }}); err == nil {
		t.Error("keys are made that cannot be stored")
	}
}

// Without a clock a token's end is in the time that the floor gives, and comes with the time that passes.
func TestUntrustedClock(t *testing.T) {
	r := start(t)
	r.trusted = false
	tok := r.issue("device/a")
	if exp := part(t, tok, 1)["exp"].(float64); exp < 1.8e9 {
		t.Errorf("exp %v", exp)
	}
	r.holds(tok, true)
	r.pass(14 * time.Minute)
	r.holds(tok, true)
	r.pass(2 * time.Minute)
	r.holds(tok, false)
}

func TestRunEnds(t *testing.T) {
	r := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx)
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"format":1,"keys":[{"seed":"AAAA","state":"current"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if keys, err := parseKeys(b); err == nil {
			(&keyring{keys: keys}).signer()
		}
	})
}
