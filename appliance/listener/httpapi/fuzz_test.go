package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
)

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"90", "10m", "1h30m", "500ms", "", "-1", "1e9", "99999999999999999999", "0x10", "9223372036854775807ns", "+5", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDuration("it", s, message.MaxTTL)
		if err == nil && (d < 0 || d > message.MaxTTL) {
			t.Errorf("%q became %v", s, d)
		}
		if err != nil && message.ProblemOf(err) == nil {
			t.Errorf("%q: %v is no problem", s, err)
		}
		if err == nil {
			if again, err := parseDuration("it", d.String(), message.MaxTTL); err != nil || again != d {
				t.Errorf("%q became %v, which reads as %v, %v", s, d, again, err)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"k", `"k"`, `"a\"b"`, `"`, `\`, `"\\"`, `""`, "a,b", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := parseKey(s)
		if err != nil {
			return
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, err := parseKey(quoted); key == "" || err != nil || again != key {
			t.Errorf("%q is the key %q, quoted %q, %v", s, key, again, err)
		}
	})
}

// FuzzTopicPath: whatever comes as a path, a published topic is valid, and escaping a topic gives
// the same topic back.
func FuzzTopicPath(f *testing.F) {
	for _, s := range []string{"a/b", "/a", "a//b", "%2B", "%23", "%2F", "a%", "灯", "..", "a%00", "%FF", "a b", "?", "#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		core := newFake()
		h := New(Options{Core: core})
		serve := func(path string) int {
			u, err := url.ParseRequestURI(path)
			if err != nil {
				return 0
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, &http.Request{Method: "POST", URL: u, Header: http.Header{}, Body: http.NoBody, ProtoMajor: 1})
			return w.Code
		}
		if code := serve("/v1/publish/" + s); code >= 500 {
			t.Errorf("%q: %d", s, code)
		}
		for _, m := range core.messages {
			if _, err := message.ParseTopic(string(m.Topic)); err != nil {
				t.Errorf("%q was published: %v", m.Topic, err)
			}
		}
		core.messages = nil
		topic, err := message.ParseTopic(s)
		code := serve("/v1/publish/" + url.PathEscape(s))
		if err == nil && !topic.Reserved() && (code != 201 || core.messages[0].Topic != topic) {
			t.Errorf("topic %q: %d", s, code)
		}
		if err != nil && code == 201 {
			t.Errorf("%q was published: %v", s, err)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	for _, h := range []string{"Message-Priority", "Message-Ttl", "Message-Delay", "Message-At", "Message-Retain", "Message-Durability", "Message-Property", "Message-Receipt", "Idempotency-Key", "Message-X"} {
		f.Add(h, "1")
		f.Add(h, "k=v")
		f.Add(h, "2026-11-23T06:00:00Z")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		a := &api{Options: Options{Now: func() (time.Time, bool) { return time.Unix(1_800_000_000, 0), true }}}
		m := message.New("a", nil)
		err := a.describe(http.Header{http.CanonicalHeaderKey(name): {value}}, m)
		if err != nil && message.ProblemOf(err) == nil {
			t.Errorf("%q: %q: %v is no problem", name, value, err)
		}
		if err == nil && m.Check() != nil && len(value) < message.MaxAttributeBytes && name != "Message-Property" {
			t.Errorf("%q: %q was accepted and made a bad message: %v", name, value, m.Check())
		}
	})
}

func FuzzStrictJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"upto":"k3f9w2xq-1"}`, `{"ids":[],"ids":[]}`, `[[[[`, `{"nack":[{"id":"x"}]}`, `{"a":{"b":[1,{"c":null}]}}`, "\xff", `"x"`, `1 2`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v acksJSON
		err := unmarshalStrict(b, &v)
		if err == nil && !json.Valid(b) {
			t.Errorf("%q was taken for JSON", b)
		}
		if err != nil && message.ProblemOf(err) == nil {
			t.Errorf("%q: %v is no problem", b, err)
		}
		var any map[string]any
		if checkMembers(b) == nil && json.Unmarshal(b, &any) != nil && json.Valid(b) && len(b) > 0 && strings.TrimSpace(string(b))[0] == '{' {
			t.Errorf("%q passed the check and does not decode", b)
		}
	})
}
