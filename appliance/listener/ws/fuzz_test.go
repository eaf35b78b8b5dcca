package ws

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"edgepost/appliance/message"
)

// FuzzDecode holds the decoder against encoding/json: what it accepts is JSON and means the same
// there; what it refuses is a Problem.
func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if object, ok := strings.CutPrefix(line, "> "); ok && len(object) < 500 {
				f.Add([]byte(strings.TrimSpace(object)))
			}
		}
	}
	f.Add([]byte(`{"id":1,"pub":{"topic":"a\"\\","properties":{"\u0041":"\ud83d\ude00"},"data":{"a":[{"b":"]}"}]}}}`))
	for _, ack := range []string{`0,"upto":0`, `1,"upto":4712`, `01,"upto":1`, `1,"upto":1,"upto":2`, `2147483648,"upto":1`, `1,"upto":18446744073709551616`, `,"upto":1`} {
		f.Add([]byte(`{"ack":{"sub":` + ack + `}}`))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		line = bytes.Trim(line, " \t\r")
		if len(line) == 0 || bytes.IndexByte(line, '\n') >= 0 || !utf8.Valid(line) {
			return // the frame does not let these through
		}
		var r request
		err := r.decode(line)
		if err != nil && message.ProblemOf(err) == nil {
			t.Fatalf("%q: the error is no Problem: %v", line, err)
		}
		if err == nil && !repeats(line) {
			compare(t, line, &r)
		}
	})
}

// repeats reports whether a member comes twice, which encoding/json merges in ways of its own.
func repeats(object []byte) bool {
	seen := map[string]bool{}
	twice := false
	_ = members(object, func(key, value []byte) error {
		twice = twice || seen[string(key)] || value[0] == '{' && string(key) != "data" && repeats(value)
		seen[string(key)] = true
		return nil
	})
	return twice
}

// reference is what encoding/json makes of the same object.
type reference struct {
	ID    json.RawMessage
	Hello *struct{ Device, Token string }
	Auth  *struct{ Token string }
	Ack   *struct {
		Sub  int32
		UpTo *uint64
		Seqs []uint64
	}
	Nack *struct {
		Sub    int32
		Seq    uint64
		Reason string
		Reject bool
		Delay  int64 `json:"delay_ms"`
	}
	Sub   *struct{ Topic, After, Name string }
	Unsub *struct {
		Sub  *int32
		Name string
	}
	Pub *struct {
		Topic      string
		Data       json.RawMessage
		Text       *string
		Base64     *string `json:"data_base64"`
		Ct, Key    string
		TTL, Delay any
		Priority   *uint64
		Retain     bool
		Volatile   bool
		Properties map[string]any
		Response   string
		Receipt    string
	}
	Ping json.RawMessage
}

func compare(t *testing.T, line []byte, r *request) {
	var w reference
	if err := json.Unmarshal(line, &w); err != nil {
		t.Fatalf("%q: accepted, but encoding/json says %v", line, err)
	}
	var got, want any
	switch r.verb {
	case verbHello:
		got, want = *w.Hello, struct{ Device, Token string }{r.device, r.token}
	case verbAuth:
		got, want = w.Auth.Token, r.token
	case verbAck:
		got, want = []any{w.Ack.Sub, number(w.Ack.UpTo, r.hasUpTo), len(w.Ack.Seqs)}, []any{r.sub, r.upTo, len(r.seqs)}
	case verbNack:
		got = []any{w.Nack.Sub, w.Nack.Seq, w.Nack.Reason, w.Nack.Reject, time.Duration(w.Nack.Delay) * time.Millisecond}
		want = []any{r.sub, r.seq, r.reason, r.reject, r.delay}
	case verbSub:
		got, want = []string{w.Sub.Topic, w.Sub.Name}, []string{string(r.want.Filter), r.want.Name}
	case verbUnsub:
		got, want = []any{w.Unsub.Name, number(w.Unsub.Sub, r.sub >= 0)}, []any{r.want.Name, max(r.sub, 0)}
	case verbPub:
		comparePub(t, line, &w, r.msg)
	case verbPing:
		got, want = string(w.Ping), string(r.ping)
	default:
		t.Errorf("%q: accepted without an operation", line)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q: encoding/json has %v, we have %v", line, got, want)
	}
	if r.id != nil && string(w.ID) != string(r.id) {
		t.Errorf("%q: id %s, want %s", line, r.id, w.ID)
	}
}

// number is what p points to, 0 for nil, and nil when that is not as expected.
func number[N int32 | uint64](p *N, given bool) any {
	switch {
	case (p != nil) != given:
		return nil
	case p == nil:
		return N(0)
	}
	return *p
}

func comparePub(t *testing.T, line []byte, w *reference, m *message.Message) {
	t.Helper()
	got := []any{string(m.Payload), string(m.Topic), m.Key, m.Retain, m.Volatile, string(m.Response)}
	want := []any{w.payload(), w.Pub.Topic, w.Pub.Key, w.Pub.Retain, w.Pub.Volatile, w.Pub.Response}
	if w.Pub.Ct != "" {
		got, want = append(got, m.ContentType), append(want, w.Pub.Ct)
	}
	if w.Pub.Priority != nil && *w.Pub.Priority <= message.MaxPriority {
		got, want = append(got, uint64(m.Priority)), append(want, *w.Pub.Priority)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q: pub decoded as %v, want %v", line, got, want)
	}
	for _, p := range m.Properties {
		if _, ok := w.Pub.Properties[p.Key]; !ok {
			t.Errorf("%q: property %q came from nowhere", line, p.Key)
		}
	}
}

func (w *reference) payload() string {
	switch {
	case w.Pub.Text != nil:
		return *w.Pub.Text
	case w.Pub.Base64 != nil:
		raw, _ := base64.StdEncoding.DecodeString(*w.Pub.Base64)
		return string(raw)
	}
	return string(w.Pub.Data)
}
